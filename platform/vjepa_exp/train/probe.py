"""Frozen evaluation: train and test probes on tokens of a frozen encoder (paper section 4, Table 9; method facts 8).

Probes that want the same tokens are trained together, step by step on the same batches: the encoder, which costs nearly
everything, works once for all of them. None sees the others, so each ends bit for bit where it would end alone.

Where clips are not augmented and the features fit, the encoder sees every training clip once, and all epochs run on the
kept features. Test features never change: where they fit, they are kept too and give a score after every epoch, or
after several where a few labels would be tested on many videos. The score of the last epoch is the result; nothing is
selected on the test split.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import tee
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

from vjepa_exp.evals.coverage import Coverage
from vjepa_exp.spec import evaluate
from vjepa_exp.spec.stages import ProbeRecipe
from vjepa_exp.train.checkpoint import load_checkpoint
from vjepa_exp.train.hooks import DivergedError
from vjepa_exp.train.loop import Hook, StepInfo, training_steps
from vjepa_exp.train.precision import autocast
from vjepa_exp.train.probe_data import Split, TrainingTokens, held_out_tokens, training_tokens
from vjepa_exp.train.probe_score import HeldOut, ProbeOutcome, score_probes
from vjepa_exp.train.probe_step import ProbeState, TokenBatch, make_probe_step
from vjepa_exp.train.world import World
from vjepa_models.encoder import VideoEncoder
from vjepa_models.probes import AttentiveProbe, LinearProbe, build_probe


@dataclass(frozen=True)
class ProbeResult:
    """A trained probe and how it did.

    Attributes:
        metrics: of the test after the last step: `top1` (per cent), `test_loss`, `n` (videos covered), `chance` (per
            cent that always naming the commonest class scores).
        coverage: of the test split, where an unreadable video is never replaced.
        train_coverage: of the training split.
        curve: `step`, `epoch`, `top1` and `test_loss` of every test.
        top1_by_class: per cent, None for a class without test videos.
        probe: the weights.
    """

    metrics: dict[str, float]
    coverage: Coverage
    train_coverage: Coverage
    curve: tuple[dict[str, float], ...]
    top1_by_class: tuple[float | None, ...]
    probe: AttentiveProbe | LinearProbe


@dataclass
class _Training:
    """One probe on its way."""

    recipe: ProbeRecipe
    probe: AttentiveProbe | LinearProbe
    state: ProbeState
    batches: Iterator[TokenBatch]
    steps: Iterator[StepInfo[ProbeState]]
    hooks: Sequence[Hook[ProbeState]]
    outcome: ProbeOutcome | None = None

    def take(self, step: int) -> StepInfo[ProbeState] | None:
        """The next batch: train on it, unless this step was done before training was interrupted."""
        if self.state.step < step:
            return next(self.steps)
        next(self.batches)
        return None

    def stop(self) -> None:
        """Draw no batches any more: they would be held for it."""
        self.batches, self.steps = iter(()), iter(())

    def tested(self, info: StepInfo[ProbeState], epoch: int, outcome: ProbeOutcome) -> StepInfo[ProbeState]:
        """Take down a score; returns the info of its step with it."""
        self.outcome = outcome
        self.state.curve.append({"step": info.step, "epoch": epoch, **outcome.scores})
        return replace(info, evaluation={"epoch": epoch, **outcome.scores})

    def tell(self, info: StepInfo[ProbeState]) -> DivergedError | None:
        """Call the hooks of a step."""
        try:
            for hook in self.hooks:
                hook(info)
        except DivergedError as error:
            return error.with_traceback(None)  # whose frames would hold the batches
        return None


class Resume(NamedTuple):
    """Checkpoint folder of each probe, None for one that begins, and the fingerprint of the order of training videos.

    Tokens and batches begin at the fewest steps that a probe has done; one that is further passes over what it had.
    """

    folders: Sequence[Path | None]
    order: str


BEGIN = Resume((), "")


def train_probes(
    recipes: Sequence[ProbeRecipe],
    world: World,
    encoder: VideoEncoder,
    train: Split,
    test: Split,
    num_classes: int,
    *,
    micro_batch: int | None = None,
    hooks: Sequence[Sequence[Hook[ProbeState]]] | None = None,
    resume: Resume = BEGIN,
    first: int = 0,
) -> list[ProbeResult | DivergedError]:
    """Train probes and test each on every video of the test split exactly once.

    Args:
        recipes: decide the numbers. They differ in nothing that changes tokens, batches or the number of epochs: in
            pooling, learning rate, weight decay, warm-up and clipping at most.
        world: this worker among its equals.
        encoder: frozen.
        train: positions 0 .. `num_train_positions` of the training order. Where features are kept: in any batches, each
            position on one worker. Otherwise step s (from 1) takes positions [(s-1)B, sB), worker r the r-th slice,
            and the batches of the `first` steps are left out.
        test: positions 0 .. `num_videos`, in any batches, each position on one worker.
        num_classes: classes of both splits.
        micro_batch: clips of one forward pass of the encoder.
        hooks: of each probe, called after every step, on every worker.
        resume: where the probes go on.
        first: the fewest steps that one of them has done.

    Returns:
        For each recipe a result, or the DivergedError of a hook that ended it: the others go on. What else a hook
        raises ends all of them.

    Raises:
        UserError: no readable video in a split, a batch that does not divide among the workers, or a checkpoint that
            does not fit.
        RuntimeError: the streams miss or repeat a video.
    """
    shared = recipes[0]
    encoder = encoder.to(world.device)
    tokens = training_tokens(shared, encoder, train, world, micro_batch, first)
    held_out = HeldOut(held_out_tokens(shared, encoder, test, world, micro_batch), test.num_videos)
    return train_on_tokens(recipes, world, encoder, tokens, held_out, num_classes, hooks, resume=resume)


StopSome = Callable[[int, Mapping[int, ProbeOutcome]], Iterable[int]]
"""Of (epoch, outcome of every running probe by its number) the numbers of those that stop there."""


def train_on_tokens(
    recipes: Sequence[ProbeRecipe],
    world: World,
    encoder: VideoEncoder,
    tokens: TrainingTokens,
    test: HeldOut,
    num_classes: int,
    hooks: Sequence[Sequence[Hook[ProbeState]]] | None = None,
    stop_some: StopSome | None = None,
    resume: Resume = BEGIN,
) -> list[ProbeResult | DivergedError]:
    """`train_probes` on features that are there, or on their way.

    Args:
        recipes: as there.
        world: this worker among its equals.
        encoder: that the features are of; only its sizes count.
        tokens: training batches of all epochs.
        test: of the test.
        num_classes: classes of both splits.
        hooks: of each probe.
        stop_some: asked after every test but the last, the same on every worker; a probe that stops has the result of
            that test.
        resume: as there; the tokens begin at the fewest steps done.
    """
    shared, held_out = recipes[0], test.features
    cast = autocast(shared.probe.precision, world.device)
    last_step = shared.probe.optim.epochs * tokens.steps_per_epoch
    streams = tee(tokens.batches, len(recipes))
    all_hooks = hooks or [()] * len(recipes)
    trainings = [
        _training(recipe, encoder, num_classes, replace(tokens, batches=stream), world, cast, last_step, own)
        for recipe, stream, own in zip(recipes, streams, all_hooks, strict=True)
    ]
    test_every = 1 if stop_some else _epochs_to_a_test(shared, tokens, test)
    del streams  # what nobody draws from any more would hold all batches
    running, ended = dict(enumerate(trainings)), dict[int, DivergedError]()
    for training, folder in zip(trainings, resume.folders, strict=False):
        if folder:
            load_checkpoint(folder, training.state, training.recipe, resume.order)
    for step in range(tokens.first + 1, last_step + 1):
        infos = {number: info for number, training in running.items() if (info := training.take(step))}
        epoch, rest = divmod(step, tokens.steps_per_epoch)
        if infos and (step == last_step or (rest == 0 and isinstance(held_out, list) and epoch % test_every == 0)):
            probes = [running[number].probe for number in infos]
            outcomes = score_probes(probes, held_out, test.num_videos, num_classes, world, cast)
            for number, outcome in zip(infos, outcomes, strict=True):
                infos[number] = running[number].tested(infos[number], epoch, outcome)
        for number, info in infos.items():
            if error := running[number].tell(info):
                ended[number] = error
                running.pop(number).stop()
        if stop_some and step < last_step and any(info.evaluation for info in infos.values()):
            tested = {number: training.outcome for number, training in running.items() if training.outcome}
            for number in stop_some(epoch, tested):
                running.pop(number).stop()
        if not running:
            break
    covered = tokens.coverage(world)
    return [ended.get(number) or _result(training, covered) for number, training in enumerate(trainings)]


def _epochs_to_a_test(recipe: ProbeRecipe, tokens: TrainingTokens, test: HeldOut) -> int:
    """So many that tests take no longer than training, a step of which is three forward passes."""
    trained = tokens.steps_per_epoch * min(recipe.probe.optim.batch_size, tokens.num_videos)
    return ceil(test.num_videos * recipe.probe.views / (3 * trained))


def _training(
    recipe: ProbeRecipe,
    encoder: VideoEncoder,
    num_classes: int,
    tokens: TrainingTokens,
    world: World,
    cast: Callable[[], AbstractContextManager[Any]],
    last_step: int,
    hooks: Sequence[Hook[ProbeState]],
) -> _Training:
    optim = recipe.probe.optim
    probe = _initial_probe(recipe, encoder, num_classes).to(world.device)
    step_fn = make_probe_step(optim, tokens.steps_per_epoch, world, wrapped=world.wrap(probe), autocast=cast)
    state = ProbeState.of(probe, world, tokens.unreadable, tokens.readable)
    steps = training_steps(state, tokens.batches, step_fn, until=last_step, clips=optim.batch_size)
    return _Training(recipe, probe, state, tokens.batches, steps, hooks)


def _result(training: _Training, train_coverage: Coverage) -> ProbeResult:
    outcome = training.outcome
    assert outcome is not None
    return ProbeResult(
        metrics={**outcome.scores, "n": outcome.accuracy.num_videos, "chance": outcome.accuracy.chance},
        coverage=outcome.coverage,
        train_coverage=train_coverage,
        curve=tuple(training.state.curve),
        top1_by_class=tuple(outcome.accuracy.top1_by_class),
        probe=training.probe,
    )


def _initial_probe(recipe: ProbeRecipe, encoder: VideoEncoder, num_classes: int) -> AttentiveProbe | LinearProbe:
    spec, config = recipe.probe, encoder.config
    depth = spec.depth if isinstance(spec, evaluate.AttentiveProbe) else 1
    return build_probe(spec.kind, config.embed_dim, config.num_heads, num_classes, recipe.seed, depth)
