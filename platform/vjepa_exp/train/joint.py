"""Probes that take their steps together on the same batches; none sees the others."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import tee
from math import ceil
from typing import Any, NamedTuple, Self

from vjepa_exp.evals.coverage import Coverage
from vjepa_exp.spec import evaluate
from vjepa_exp.spec.stages import ProbeRecipe
from vjepa_exp.train.hooks import DivergedError
from vjepa_exp.train.loop import Hook, StepInfo, training_steps
from vjepa_exp.train.precision import autocast
from vjepa_exp.train.probe_data import TrainingTokens
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


class JointStep(NamedTuple):
    """A step that all running probes have done, and of those that were tested after it what came out, by number."""

    step: int
    last_step: int
    epoch: int
    tested: dict[int, ProbeOutcome]


class JointTraining:
    """One pass over the batches for several probes.

    Attributes:
        states: of the probes that still run, by their numbers.
        diverged: why probes ended, by their numbers.
        step: the last one done.
        last_step: of each probe.
    """

    def __init__(
        self,
        recipes: Sequence[ProbeRecipe],
        world: World,
        encoder: VideoEncoder,
        tokens: TrainingTokens,
        test: HeldOut,
        num_classes: int,
        hooks: Sequence[Sequence[Hook[ProbeState]]] | None = None,
        test_every: int | None = None,
    ) -> None:
        """Set up probes at their initial weights.

        Args:
            recipes: differ in nothing that changes tokens, batches or the number of epochs.
            world: this worker among its equals.
            encoder: that the features are of; only its sizes count.
            tokens: training batches of all epochs.
            test: of the test.
            num_classes: classes of both splits.
            hooks: of each probe, called after every step, on every worker; a DivergedError of one ends that probe.
            test_every: epochs from one test to the next, where features of the test are kept; None: so many that tests
                take no longer than training.
        """
        shared = recipes[0]
        self._world, self._tokens, self._test, self._num_classes = world, tokens, test, num_classes
        self._cast = autocast(shared.probe.precision, world.device)
        self._test_every = test_every or _epochs_to_a_test(shared, tokens, test)
        self.step, self.last_step = tokens.first, shared.probe.optim.epochs * tokens.steps_per_epoch
        streams = tee(tokens.batches, len(recipes))
        self._running = {
            number: _Training.of(recipe, encoder, num_classes, tokens, stream, world, self._cast, self.last_step, own)
            for number, (recipe, stream, own) in enumerate(
                zip(recipes, streams, hooks or [()] * len(recipes), strict=True)
            )
        }
        self.diverged: dict[int, DivergedError] = {}

    @property
    def states(self) -> dict[int, ProbeState]:
        """What training changes: to be loaded before the first step, to be saved after any."""
        return {number: training.state for number, training in self._running.items()}

    @property
    def num_videos(self) -> int:
        """Of the training split."""
        return self._tokens.num_videos

    def steps(self) -> Iterator[JointStep]:
        """Do the steps, until no probe runs any more. One that was loaded further on passes over what it had."""
        while self._running and self.step < self.last_step:
            self.step += 1
            infos = {number: info for number, one in self._running.items() if (info := one.take(self.step))}
            epoch, rest = divmod(self.step, self._tokens.steps_per_epoch)
            tested = self._score(list(infos)) if self._is_tested(epoch, rest) else {}
            for number, outcome in tested.items():
                infos[number] = self._running[number].tested(infos[number], epoch, outcome)
            for number, info in infos.items():
                if error := self._running[number].tell(info):
                    self.diverged[number] = error
                    self.stop(number)
            left = {number: outcome for number, outcome in tested.items() if number in self._running}
            yield JointStep(self.step, self.last_step, epoch, left)

    def stop(self, number: int) -> None:
        """Have a probe take no more steps: batches would be held for it."""
        self._running.pop(number).stop()

    def results(self) -> list[ProbeResult | DivergedError]:
        """Of probes none of which was stopped, after the last step; every worker calls it."""
        covered = self._tokens.coverage(self._world)
        return [
            self.diverged.get(number) or self._running[number].result(covered)
            for number in sorted([*self.diverged, *self._running])
        ]

    def _is_tested(self, epoch: int, rest: int) -> bool:
        """Whether there is a test after a step: the last of all, or with kept features that of some epochs."""
        kept = isinstance(self._test.features, list)
        return self.step == self.last_step or (kept and rest == 0 and epoch % self._test_every == 0)

    def _score(self, numbers: Sequence[int]) -> dict[int, ProbeOutcome]:
        if not numbers:
            return {}
        probes, test = [self._running[number].probe for number in numbers], self._test
        found = score_probes(probes, test.features, test.num_videos, self._num_classes, self._world, self._cast)
        return dict(zip(numbers, found, strict=True))


@dataclass
class _Training:
    """One probe on its way."""

    probe: AttentiveProbe | LinearProbe
    state: ProbeState
    batches: Iterator[TokenBatch]
    steps: Iterator[StepInfo[ProbeState]]
    hooks: Sequence[Hook[ProbeState]]
    outcome: ProbeOutcome | None = None

    @classmethod
    def of(
        cls,
        recipe: ProbeRecipe,
        encoder: VideoEncoder,
        num_classes: int,
        tokens: TrainingTokens,
        batches: Iterator[TokenBatch],
        world: World,
        cast: Callable[[], AbstractContextManager[Any]],
        last_step: int,
        hooks: Sequence[Hook[ProbeState]],
    ) -> Self:
        optim = recipe.probe.optim
        probe = _initial_probe(recipe, encoder, num_classes).to(world.device)
        step_fn = make_probe_step(optim, tokens.steps_per_epoch, world, wrapped=world.wrap(probe), autocast=cast)
        state = ProbeState.of(probe, world, tokens.unreadable, tokens.readable)
        steps = training_steps(state, batches, step_fn, until=last_step, clips=optim.batch_size)
        return cls(probe, state, batches, steps, hooks)

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

    def result(self, train_coverage: Coverage) -> ProbeResult:
        """After the last step."""
        outcome = self.outcome
        assert outcome is not None
        return ProbeResult(
            metrics={**outcome.scores, "n": outcome.accuracy.num_videos, "chance": outcome.accuracy.chance},
            coverage=outcome.coverage,
            train_coverage=train_coverage,
            curve=tuple(self.state.curve),
            top1_by_class=tuple(outcome.accuracy.top1_by_class),
            probe=self.probe,
        )


def _epochs_to_a_test(recipe: ProbeRecipe, tokens: TrainingTokens, test: HeldOut) -> int:
    """So many that tests take no longer than training, a step of which is three forward passes."""
    trained = tokens.steps_per_epoch * min(recipe.probe.optim.batch_size, tokens.num_videos)
    return ceil(test.num_videos * recipe.probe.views / (3 * trained))


def _initial_probe(recipe: ProbeRecipe, encoder: VideoEncoder, num_classes: int) -> AttentiveProbe | LinearProbe:
    spec, config = recipe.probe, encoder.config
    depth = spec.depth if isinstance(spec, evaluate.AttentiveProbe) else 1
    return build_probe(spec.kind, config.embed_dim, config.num_heads, num_classes, recipe.seed, depth)
