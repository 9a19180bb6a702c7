"""Frozen evaluation: train and test probes on tokens of a frozen encoder (paper section 4, Table 9; method facts 8).

Probes that want the same tokens are trained together, step by step on the same batches: the encoder, which costs nearly
everything, works once for all of them. None sees the others, so each ends bit for bit where it would end alone.

Where clips are not augmented and the features fit, the encoder sees every training clip once, and all epochs run on the
kept features. Test features never change: where they fit, they are kept too and give a score after every epoch. The
score of the last epoch is the result; nothing is selected on the test split.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import tee
from typing import Any, NamedTuple

import torch
from torch import nn

from vjepa_exp.evals.accuracy import Accuracy
from vjepa_exp.evals.coverage import Coverage, Unreadable
from vjepa_exp.evals.views import average_views
from vjepa_exp.spec import evaluate
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.stages import ProbeRecipe
from vjepa_exp.train.features import Features
from vjepa_exp.train.loop import Hook, StepInfo, training_steps
from vjepa_exp.train.precision import autocast
from vjepa_exp.train.probe_data import Split, TrainingTokens, held_out_tokens, training_tokens
from vjepa_exp.train.probe_step import ProbeState, make_probe_step
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


class ProbeOutcome(NamedTuple):
    """Counts over all workers."""

    accuracy: Accuracy
    coverage: Coverage

    @property
    def scores(self) -> dict[str, float]:
        """`top1` (per cent) and `test_loss`."""
        return {"top1": self.accuracy.top1, "test_loss": self.accuracy.loss}


@dataclass
class _Training:
    """One probe on its way."""

    probe: AttentiveProbe | LinearProbe
    steps: Iterator[StepInfo[ProbeState]]
    hooks: Sequence[Hook[ProbeState]]
    curve: list[dict[str, float]] = field(default_factory=list)
    outcome: ProbeOutcome | None = None

    def tell(self, info: StepInfo[ProbeState]) -> UserError | None:
        """Call the hooks of a step."""
        try:
            for hook in self.hooks:
                hook(info)
        except UserError as error:
            return error
        return None


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
) -> list[ProbeResult | UserError]:
    """Train probes and test each on every video of the test split exactly once.

    Args:
        recipes: decide the numbers. They differ in nothing that changes tokens, batches or the number of epochs: in
            pooling, learning rate, weight decay, warm-up and clipping at most.
        world: this worker among its equals.
        encoder: frozen.
        train: positions 0 .. `num_train_positions` of the training order. Where features are kept: in any batches, each
            position on one worker. Otherwise step s (from 1) takes positions [(s-1)B, sB), worker r the r-th slice.
        test: positions 0 .. `num_videos`, in any batches, each position on one worker.
        num_classes: classes of both splits.
        micro_batch: clips of one forward pass of the encoder.
        hooks: of each probe, called after every step, on every worker.

    Returns:
        For each recipe a result, or the UserError of a hook that ended it (it diverged): the others go on.

    Raises:
        UserError: no readable video in a split, or a batch that does not divide among the workers.
        RuntimeError: the streams miss or repeat a video.
    """
    shared = recipes[0]
    encoder = encoder.to(world.device)
    tokens = training_tokens(shared, encoder, train, world, micro_batch)
    held_out = held_out_tokens(shared, encoder, test, world, micro_batch)
    return train_on_tokens(recipes, world, encoder, tokens, HeldOut(held_out, test.num_videos), num_classes, hooks)


class HeldOut(NamedTuple):
    """Features of this worker's test videos, a list where they are kept, and how many videos there are in all."""

    features: Iterable[Features]
    num_videos: int


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
) -> list[ProbeResult | UserError]:
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
    del streams  # what nobody draws from any more would hold all batches
    running, ended = dict(enumerate(trainings)), dict[int, UserError]()
    for step in range(1, last_step + 1):
        infos = {number: next(training.steps) for number, training in running.items()}
        epoch, rest = divmod(step, tokens.steps_per_epoch)
        if step == last_step or (rest == 0 and isinstance(held_out, list)):
            probes = [training.probe for training in running.values()]
            outcomes = score_probes(probes, held_out, test.num_videos, num_classes, world, cast)
            for number, outcome in zip(running, outcomes, strict=True):
                running[number].outcome = outcome
                running[number].curve.append({"step": step, "epoch": epoch, **outcome.scores})
                infos[number] = replace(infos[number], evaluation={"epoch": epoch, **outcome.scores})
        for number, info in infos.items():
            if error := running[number].tell(info):
                ended[number] = error
                running.pop(number).steps = iter(())
        if stop_some and step < last_step and any(info.evaluation for info in infos.values()):
            tested = {number: training.outcome for number, training in running.items() if training.outcome}
            for number in stop_some(epoch, tested):
                running.pop(number).steps = iter(())
        if not running:
            break
    covered = tokens.coverage(world)
    return [ended.get(number) or _result(training, covered) for number, training in enumerate(trainings)]


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
    state = ProbeState.of(probe)
    steps = training_steps(state, tokens.batches, step_fn, until=last_step, clips=optim.batch_size)
    return _Training(probe, steps, hooks)


def _result(training: _Training, train_coverage: Coverage) -> ProbeResult:
    outcome = training.outcome
    assert outcome is not None
    return ProbeResult(
        metrics={**outcome.scores, "n": outcome.accuracy.num_videos, "chance": outcome.accuracy.chance},
        coverage=outcome.coverage,
        train_coverage=train_coverage,
        curve=tuple(training.curve),
        top1_by_class=tuple(outcome.accuracy.top1_by_class),
        probe=training.probe,
    )


@torch.no_grad()
def score_probes(
    probes: Sequence[nn.Module],
    held_out: Iterable[Features],
    num_videos: int,
    num_classes: int,
    world: World,
    cast: Callable[[], AbstractContextManager[Any]],
) -> list[ProbeOutcome]:
    """Accuracy of each probe over the videos of all workers, softmax averaged over spatial views.

    Raises:
        UserError: no video can be read.
        RuntimeError: a video is missing or came twice.
    """
    accuracies = [Accuracy(num_classes, world.device) for _ in probes]
    positions = [torch.empty(0, dtype=torch.int64, device=world.device)]
    unreadable: list[Unreadable] = []
    for part in held_out:
        if len(part.position):
            for probe, accuracy in zip(probes, accuracies, strict=True):
                with cast():
                    logits_XC = probe(part.tokens.flatten(0, 1))
                logits_BRC = logits_XC.unflatten(0, part.tokens.shape[:2])
                accuracy.update(average_views(logits_BRC), part.label)
        positions.append(part.position)
        unreadable += part.unreadable
    for accuracy in accuracies:
        accuracy.counts_C2, accuracy.nll = world.sum(accuracy.counts_C2), world.sum(accuracy.nll)
    seen = world.gather_rows(torch.cat(positions))
    missed = [one for worker in world.gather(unreadable) for one in worker]
    if len(seen) + len(missed) != num_videos or len(seen.unique()) != len(seen):
        raise RuntimeError(
            f"{len(seen)} videos ({len(seen.unique())} different) and {len(missed)} unreadable of {num_videos}"
        )
    if len(seen) == 0:
        raise UserError("no test video can be read" if num_videos else "the test split has no videos")
    coverage = Coverage(num_videos, tuple(sorted(missed)))
    return [ProbeOutcome(accuracy, coverage) for accuracy in accuracies]


def _initial_probe(recipe: ProbeRecipe, encoder: VideoEncoder, num_classes: int) -> AttentiveProbe | LinearProbe:
    spec, config = recipe.probe, encoder.config
    depth = spec.depth if isinstance(spec, evaluate.AttentiveProbe) else 1
    return build_probe(spec.kind, config.embed_dim, config.num_heads, num_classes, recipe.seed, depth)
