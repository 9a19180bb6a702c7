"""A sweep of a probe's settings on one frozen encoder: choose on held-out training videos, then train and test once.

All candidates of a round take their steps together on the same features. Where features are kept, the encoder sees
every training video once for the whole sweep; otherwise each round is a pass over the videos, and so is the last
training. What a sweep has done so far is one state, which can be saved after any step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.stages import ProbeRecipe
from vjepa_exp.spec.sweep import ProbeSweep
from vjepa_exp.train.hooks import DivergedError
from vjepa_exp.train.joint import JointStep, JointTraining, ProbeResult
from vjepa_exp.train.loop import Hook
from vjepa_exp.train.probe_score import HeldOut
from vjepa_exp.train.probe_step import ProbeState
from vjepa_exp.train.searcher import Candidate, Settings, searcher
from vjepa_exp.train.sweep_passes import SweepData, sweep_passes, with_settings
from vjepa_exp.train.world import World
from vjepa_models.encoder import VideoEncoder


@dataclass(frozen=True)
class SweepResult:
    """The probe with the chosen settings, and all that were tried."""

    probe: ProbeResult
    chosen: Candidate
    tried: tuple[Candidate, ...]
    num_held_out: int


class SweepState:
    """What a sweep has done so far: rounds of candidates, and as one more round the training with the chosen settings.

    Attributes:
        tried: candidates of the rounds that are over.
        ended: of the present round, by their numbers, those that take no more steps.
        training: the present round; None between two.
    """

    def __init__(self, name: str = "checkpoint") -> None:
        """The beginning of a sweep; `name` is what to call what is loaded into it."""
        self._name = name
        self.tried: list[Candidate] = []
        self.ended: dict[int, Candidate] = {}
        self.training: JointTraining | None = None
        self._step, self._probes = 0, dict[int, dict[str, Any]]()

    @property
    def step(self) -> int:
        """The last one of the present round that is done."""
        return self._step if self.training is None else self.training.step

    def state_dict(self, *, keep: bool = True) -> dict[str, Any]:
        """Everything needed to continue; called on every worker."""
        states = {} if self.training is None else self.training.states
        return {
            "step": self.step,
            "tried": [asdict(one) for one in self.tried],
            "ended": {number: asdict(one) for number, one in self.ended.items()},
            "probes": {number: state.state_dict(keep=keep) for number, state in states.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        self.tried = [Candidate(**one) for one in state["tried"]]
        self.ended = {number: Candidate(**one) for number, one in state["ended"].items()}
        self._step, self._probes = state["step"], state["probes"]

    def begin(self, training: JointTraining) -> None:
        """Take up a round, where it was left if it had begun.

        Raises:
            UserError: what was loaded does not fit.
        """
        try:
            for number, probe in self._probes.items():
                training.states[number].load_state_dict(probe)
        except (KeyError, RuntimeError, ValueError) as error:
            raise UserError(f"{self._name} does not fit: {' '.join(str(error).split())}") from None
        for number in self.ended:
            training.stop(number)
        self.training, self._step, self._probes = training, 0, {}

    def round(self, begin: int, settings: Sequence[Settings]) -> list[Candidate]:
        """The candidates of a round that is over, the first of them the `begin`-th of all.

        Raises:
            UserError: these settings are not what was tried.
        """
        found = self.tried[begin : begin + len(settings)]
        if [one.settings for one in found] != list(settings):
            raise UserError(f"{self._name} holds other candidates than this version tries: delete it to begin anew")
        return found

    def over(self, found: Sequence[Candidate]) -> None:
        """The round is over."""
        self.tried += found
        self.ended, self.training = {}, None


AfterStep = Callable[[SweepState], None]
"""Called on every worker after each step but the last one of a round, and between two rounds."""


def sweep_probe(
    recipe: ProbeRecipe,
    world: World,
    encoder: VideoEncoder,
    data: SweepData,
    num_classes: int,
    *,
    at_most: int,
    micro_batch: int | None = None,
    candidate_hooks: Callable[[int], Sequence[Hook[ProbeState]]] = lambda number: (),
    hooks: Sequence[Hook[ProbeState]] = (),
    state: SweepState | None = None,
    after_step: AfterStep = lambda state: None,
) -> SweepResult:
    """Try settings, choose, train with the chosen ones on all training videos and test that probe.

    Args:
        recipe: with a sweep.
        world: this worker among its equals.
        encoder: frozen.
        data: the videos.
        num_classes: classes of all splits.
        at_most: candidates of one round.
        micro_batch: clips of one forward pass of the encoder.
        candidate_hooks: hooks of a candidate by its number in its round, on every worker; a DivergedError of one ends
            that candidate.
        hooks: of the last training.
        state: where the sweep goes on; None: it begins.
        after_step: what it raises ends the sweep.

    Raises:
        UserError: no candidate got a score, held-out features do not fit where candidates are to be stopped, the last
            training diverged, the state does not fit, or as `train_probes`.
    """
    sweep, state = recipe.probe.sweep, state or SweepState()
    assert sweep is not None
    passes = sweep_passes(recipe, world, encoder.to(world.device), data, micro_batch)
    search, told = searcher(sweep, at_most), 0
    for settings in search.rounds():
        if told == len(state.tried):
            recipes = [with_settings(recipe, one) for one in settings]
            own = [candidate_hooks(number) for number in range(len(recipes))]
            tokens, held_out = passes.candidates(state.step)
            often = 1 if sweep.halve_every else None
            state.begin(JointTraining(recipes, world, encoder, tokens, held_out, num_classes, own, often))
            del tokens  # a stream that is not drawn to its end holds decoders
            _do_round(state, settings, sweep, held_out, after_step)
        search.tell(state.round(told, settings))
        told += len(settings)
    chosen = max(state.tried, key=lambda candidate: candidate.rank)
    if chosen.error:
        raise UserError(f"no candidate of the sweep got a score; the first one: {state.tried[0].error}")
    final = with_settings(recipe, chosen.settings)
    tokens, test = passes.last(state.step)
    last = JointTraining([final], world, encoder, tokens, test, num_classes, [hooks])
    state.begin(last)
    for done in last.steps():
        if done.step < done.last_step and not last.diverged:
            after_step(state)
    (result,) = last.results()
    if isinstance(result, DivergedError):
        raise result
    return SweepResult(result, chosen, tuple(state.tried), passes.num_held_out)


def _do_round(
    state: SweepState, settings: Sequence[Settings], sweep: ProbeSweep, held_out: HeldOut, after_step: AfterStep
) -> None:
    """Train the candidates that still run, to the end."""
    training, kept = state.training, isinstance(held_out.features, list)
    assert training is not None
    if sweep.halve_every and not kept:
        raise UserError(
            "sweep.halve_every looks at the held-out videos after every epoch, and their features do not fit in "
            "memory: lower sweep.holdout or leave halve_every out"
        )
    for done in training.steps():
        state.ended |= {number: Candidate(settings[number], error=str(e)) for number, e in training.diverged.items()}
        if done.step == done.last_step:
            break
        for number in _worse_half(sweep, done):
            state.ended[number] = _scored(settings[number], training.states[number])
            training.stop(number)
        if training.states:
            after_step(state)
    found = state.ended | {number: _scored(settings[number], one) for number, one in training.states.items()}
    state.over([found[number] for number in range(len(settings))])
    after_step(state)


def _scored(settings: Settings, state: ProbeState) -> Candidate:
    """A candidate after its last test."""
    last = state.curve[-1]
    return Candidate(settings, round(last["epoch"]), last["top1"], last["test_loss"])


def _worse_half(sweep: ProbeSweep, done: JointStep) -> Iterable[int]:
    """Successive halving: after every so many epochs the worse half of those that still run stops."""
    if not sweep.halve_every or done.epoch % sweep.halve_every or len(done.tested) < 2:
        return ()

    def score(number: int) -> tuple[float, float]:
        accuracy = done.tested[number].accuracy
        return accuracy.top1, -accuracy.loss

    ranked = sorted(done.tested, key=score, reverse=True)
    return ranked[-(-len(ranked) // 2) :]
