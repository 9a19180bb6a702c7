"""Film strips show the masks that training draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vjepa_exp.graph.variants import expand
from vjepa_exp.report.mask_strips import CONTEXT, TARGET, describe, film_strip
from vjepa_exp.spec.load import read_experiment, resolve


@pytest.fixture
def recipes(repo_root: Path) -> dict:
    resolved = resolve(read_experiment(repo_root / "experiments" / "table4_masking.yaml"), "paper")
    return {variant.name: variant.recipe for variant in expand(resolved)}


def test_tube_is_the_same_in_every_frame(recipes) -> None:
    strip, share = film_strip(recipes["tube"], 0)
    frames = np.split(strip, 8, axis=1)
    assert all((frame == frames[0]).all() for frame in frames)
    assert share == pytest.approx((frames[0] == CONTEXT).sum() / 14**2)
    assert 0.05 < share < 0.15


def test_causal_mask_has_context_in_the_first_frames_only(recipes) -> None:
    strip, _ = film_strip(recipes["causal6"], 0)
    frames = np.split(strip, 8, axis=1)
    assert (frames[0] == CONTEXT).any()
    assert all((frame[:, :-1] == TARGET).all() for frame in frames[3:])


def test_descriptions_tell_the_masks_of_table_4_apart(recipes) -> None:
    words = {name: describe(recipe.pretrain.masks[0]) for name, recipe in recipes.items()}
    assert len(set(words.values())) == 4
    assert words["tube"] == "tubes, 90% masked"
    assert words["multiblock"] == "8 blocks of 15%"
