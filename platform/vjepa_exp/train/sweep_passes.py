"""What a sweep trains and tests on: features of one pass for all its rounds, or a pass over the videos for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.evaluate import ProbeOptimSpec
from vjepa_exp.spec.stages import ProbeRecipe
from vjepa_exp.train.features import Features, keeps_training_features
from vjepa_exp.train.probe_data import (
    Split,
    TrainingTokens,
    held_out_tokens,
    kept_features,
    kept_tokens,
    training_tokens,
)
from vjepa_exp.train.probe_score import HeldOut
from vjepa_exp.train.searcher import Settings
from vjepa_exp.train.world import World
from vjepa_models.encoder import VideoEncoder


@dataclass(frozen=True)
class SweepData:
    """This worker's videos. Each call begins a new pass.

    Attributes:
        train: all training videos, as a probe without a sweep takes them; its argument: batches of the first so many
            steps that are left out where no features are kept.
        fit: those that candidates are trained on; argument as before.
        held_out: the others, in the manner of a test with one view.
        is_held_out: of positions of `train` whether their videos are held out.
        test: the test split.
    """

    train: Callable[[int], Split]
    fit: Callable[[int], Split]
    held_out: Callable[[], Split]
    is_held_out: Callable[[NDArray[np.int64]], NDArray[np.bool_]]
    test: Callable[[], Split]


def with_settings(recipe: ProbeRecipe, settings: Settings) -> ProbeRecipe:
    """The recipe of a probe with these settings and no sweep."""
    optim = ProbeOptimSpec.model_validate(recipe.probe.optim.model_dump() | settings)
    probe = recipe.probe.model_copy(update={"optim": optim, "sweep": None})
    return recipe.model_copy(update={"probe": probe})


class Kept:
    """All rounds on the features of one pass."""

    def __init__(
        self, recipe: ProbeRecipe, world: World, encoder: VideoEncoder, data: SweepData, micro_batch: int | None
    ) -> None:
        self._world, self._recipe = world, with_settings(recipe, {})
        self._all = kept_features(self._recipe, encoder, data.train(0), world, micro_batch)
        held = torch.from_numpy(data.is_held_out(self._all.position.cpu().numpy())).to(self._all.position.device)
        self._fit, self._held_out = _rows(self._all, ~held), _rows(self._all, held)
        self.num_held_out = len(self._held_out.position)
        if not len(self._fit.position) or not self.num_held_out:
            raise UserError(f"sweep.holdout leaves no readable video of {recipe.probe.dataset} on one of its two sides")
        test = data.test()
        self._test = HeldOut(held_out_tokens(self._recipe, encoder, test, world, micro_batch), test.num_videos)

    def candidates(self, first: int) -> tuple[TrainingTokens, HeldOut]:
        """For a round of candidates: batches but those of the first steps, and the held-out videos."""
        rows = self._world.rows(self.num_held_out)
        mine = _rows(self._held_out, torch.arange(rows.start, rows.stop, device=self._world.device))
        return kept_tokens(self._recipe, self._fit, self._world, first), HeldOut([mine], self.num_held_out)

    def last(self, first: int) -> tuple[TrainingTokens, HeldOut]:
        """For the last training: batches but those of the first steps, and the test split."""
        return kept_tokens(self._recipe, self._all, self._world, first), self._test


class Streamed:
    """Every round a pass over the videos."""

    def __init__(
        self, recipe: ProbeRecipe, world: World, encoder: VideoEncoder, data: SweepData, micro_batch: int | None
    ) -> None:
        self._recipe, self._world, self._encoder = with_settings(recipe, {}), world, encoder
        self._data, self._micro_batch = data, micro_batch
        self.num_held_out = data.held_out().num_videos

    def candidates(self, first: int) -> tuple[TrainingTokens, HeldOut]:
        """As `Kept.candidates`."""
        one_view = self._recipe.probe.model_copy(update={"views": 1})
        held_out = self._recipe.model_copy(update={"probe": one_view})
        return self._tokens(self._data.fit(first), first), self._tested(held_out, self._data.held_out())

    def last(self, first: int) -> tuple[TrainingTokens, HeldOut]:
        """As `Kept.last`."""
        return self._tokens(self._data.train(first), first), self._tested(self._recipe, self._data.test())

    def _tokens(self, split: Split, first: int) -> TrainingTokens:
        return training_tokens(self._recipe, self._encoder, split, self._world, self._micro_batch, first)

    def _tested(self, recipe: ProbeRecipe, split: Split) -> HeldOut:
        features = held_out_tokens(recipe, self._encoder, split, self._world, self._micro_batch)
        return HeldOut(features, split.num_videos)


def sweep_passes(
    recipe: ProbeRecipe, world: World, encoder: VideoEncoder, data: SweepData, micro_batch: int | None
) -> Kept | Streamed:
    """The passes of a sweep over its videos.

    Raises:
        UserError: features are kept and no video can be read on one of the two sides.
    """
    kept = keeps_training_features(recipe.probe, recipe.model, data.train(0).num_videos)
    return (Kept if kept else Streamed)(recipe, world, encoder, data, micro_batch)


def _rows(features: Features, chosen: torch.Tensor) -> Features:
    """Some of the readable videos."""
    return Features(features.position[chosen], features.tokens[chosen], features.label[chosen], ())
