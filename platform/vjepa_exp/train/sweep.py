"""A sweep of a probe's settings on one frozen encoder: choose on held-out training videos, then train and test once.

All candidates of a round take their steps together on the same features. Where features are kept, the encoder sees
every training video once for the whole sweep; otherwise each round is a pass over the videos, and so is the last
training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.evaluate import ProbeOptimSpec
from vjepa_exp.spec.stages import ProbeRecipe
from vjepa_exp.spec.sweep import ProbeSweep
from vjepa_exp.train.features import Features, keeps_training_features
from vjepa_exp.train.hooks import DivergedError
from vjepa_exp.train.loop import Hook
from vjepa_exp.train.probe import ProbeResult, StopSome, train_on_tokens
from vjepa_exp.train.probe_data import (
    Split,
    TrainingTokens,
    held_out_tokens,
    kept_features,
    kept_tokens,
    training_tokens,
)
from vjepa_exp.train.probe_score import HeldOut, ProbeOutcome
from vjepa_exp.train.probe_step import ProbeState
from vjepa_exp.train.searcher import Candidate, Settings, searcher
from vjepa_exp.train.world import World
from vjepa_models.encoder import VideoEncoder


@dataclass(frozen=True)
class SweepData:
    """This worker's videos. Each call begins a new pass.

    Attributes:
        train: all training videos, as a probe without a sweep takes them.
        fit: those that candidates are trained on.
        held_out: the others, in the manner of a test with one view.
        is_held_out: of positions of `train` whether their videos are held out.
        test: the test split.
    """

    train: Callable[[], Split]
    fit: Callable[[], Split]
    held_out: Callable[[], Split]
    is_held_out: Callable[[NDArray[np.int64]], NDArray[np.bool_]]
    test: Callable[[], Split]


@dataclass(frozen=True)
class SweepResult:
    """The probe with the chosen settings, and all that were tried."""

    probe: ProbeResult
    chosen: Candidate
    tried: tuple[Candidate, ...]
    num_held_out: int


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

    Raises:
        UserError: no candidate got a score, held-out features do not fit where candidates are to be stopped, the last
            training diverged, or as `train_probes`.
    """
    sweep = recipe.probe.sweep
    assert sweep is not None
    passes = _passes(recipe, world, encoder.to(world.device), data, micro_batch)
    search, tried = searcher(sweep, at_most), list[Candidate]()
    for settings in search.rounds():
        recipes = [with_settings(recipe, one) for one in settings]
        own = [candidate_hooks(number) for number in range(len(recipes))]
        results = _round(recipes, world, encoder, passes, num_classes, own, sweep)
        found = [_candidate(one, result) for one, result in zip(settings, results, strict=True)]
        search.tell(found)
        tried += found
    chosen = max(tried, key=lambda candidate: candidate.rank)
    if chosen.error:
        raise UserError(f"no candidate of the sweep got a score; the first one: {tried[0].error}")
    final = with_settings(recipe, chosen.settings)
    tokens, test = passes.last()
    (result,) = train_on_tokens([final], world, encoder, tokens, test, num_classes, [hooks])
    if isinstance(result, DivergedError):
        raise result
    return SweepResult(result, chosen, tuple(tried), passes.num_held_out)


def _round(
    recipes: Sequence[ProbeRecipe],
    world: World,
    encoder: VideoEncoder,
    passes: _Kept | _Streamed,
    num_classes: int,
    hooks: Sequence[Sequence[Hook[ProbeState]]],
    sweep: ProbeSweep,
) -> list[ProbeResult | DivergedError]:
    """Train candidates; nothing of their batches stays: a stream that is not drawn to its end holds decoders."""
    tokens, held_out = passes.candidates()
    return train_on_tokens(recipes, world, encoder, tokens, held_out, num_classes, hooks, _halving(sweep, held_out))


def with_settings(recipe: ProbeRecipe, settings: Settings) -> ProbeRecipe:
    """The recipe of a probe with these settings and no sweep."""
    optim = ProbeOptimSpec.model_validate(recipe.probe.optim.model_dump() | settings)
    probe = recipe.probe.model_copy(update={"optim": optim, "sweep": None})
    return recipe.model_copy(update={"probe": probe})


def _candidate(settings: Settings, result: ProbeResult | DivergedError) -> Candidate:
    if isinstance(result, DivergedError):
        return Candidate(settings, error=str(result))
    last = result.curve[-1]
    return Candidate(settings, round(last["epoch"]), last["top1"], last["test_loss"])


def _halving(sweep: ProbeSweep, held_out: HeldOut) -> StopSome | None:
    """Successive halving: after every so many epochs the worse half of those that still run stops."""
    every = sweep.halve_every
    if every is None:
        return None
    if not isinstance(held_out.features, list):
        raise UserError(
            "sweep.halve_every looks at the held-out videos after every epoch, and their features do not fit in "
            "memory: lower sweep.holdout or leave halve_every out"
        )

    def stop(epoch: int, running: Mapping[int, ProbeOutcome]) -> Iterable[int]:
        if epoch % every or len(running) < 2:
            return ()
        ranked = sorted(running, key=lambda n: (running[n].accuracy.top1, -running[n].accuracy.loss), reverse=True)
        return ranked[-(-len(ranked) // 2) :]

    return stop


class _Kept:
    """All rounds on the features of one pass."""

    def __init__(
        self, recipe: ProbeRecipe, world: World, encoder: VideoEncoder, data: SweepData, micro_batch: int | None
    ) -> None:
        self._world, self._recipe = world, with_settings(recipe, {})
        self._all = kept_features(self._recipe, encoder, data.train(), world, micro_batch)
        held = torch.from_numpy(data.is_held_out(self._all.position.cpu().numpy())).to(self._all.position.device)
        self._fit, self._held_out = _rows(self._all, ~held), _rows(self._all, held)
        self.num_held_out = len(self._held_out.position)
        if not len(self._fit.position) or not self.num_held_out:
            raise UserError(f"sweep.holdout leaves no readable video of {recipe.probe.dataset} on one of its two sides")
        test = data.test()
        self._test = HeldOut(held_out_tokens(self._recipe, encoder, test, world, micro_batch), test.num_videos)

    def candidates(self) -> tuple[TrainingTokens, HeldOut]:
        rows = self._world.rows(self.num_held_out)
        mine = _rows(self._held_out, torch.arange(rows.start, rows.stop, device=self._world.device))
        return kept_tokens(self._recipe, self._fit, self._world), HeldOut([mine], self.num_held_out)

    def last(self) -> tuple[TrainingTokens, HeldOut]:
        return kept_tokens(self._recipe, self._all, self._world), self._test


class _Streamed:
    """Every round a pass over the videos."""

    def __init__(
        self, recipe: ProbeRecipe, world: World, encoder: VideoEncoder, data: SweepData, micro_batch: int | None
    ) -> None:
        self._recipe, self._world, self._encoder = with_settings(recipe, {}), world, encoder
        self._data, self._micro_batch = data, micro_batch
        self.num_held_out = data.held_out().num_videos

    def candidates(self) -> tuple[TrainingTokens, HeldOut]:
        one_view = self._recipe.probe.model_copy(update={"views": 1})
        held_out = self._recipe.model_copy(update={"probe": one_view})
        return self._tokens(self._data.fit()), self._tested(held_out, self._data.held_out())

    def last(self) -> tuple[TrainingTokens, HeldOut]:
        return self._tokens(self._data.train()), self._tested(self._recipe, self._data.test())

    def _tokens(self, split: Split) -> TrainingTokens:
        return training_tokens(self._recipe, self._encoder, split, self._world, self._micro_batch)

    def _tested(self, recipe: ProbeRecipe, split: Split) -> HeldOut:
        features = held_out_tokens(recipe, self._encoder, split, self._world, self._micro_batch)
        return HeldOut(features, split.num_videos)


def _passes(
    recipe: ProbeRecipe, world: World, encoder: VideoEncoder, data: SweepData, micro_batch: int | None
) -> _Kept | _Streamed:
    kept = keeps_training_features(recipe.probe, recipe.model, data.train().num_videos)
    return (_Kept if kept else _Streamed)(recipe, world, encoder, data, micro_batch)


def _rows(features: Features, chosen: torch.Tensor) -> Features:
    """Some of the readable videos."""
    return Features(features.position[chosen], features.tokens[chosen], features.label[chosen], ())
