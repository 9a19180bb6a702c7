from __future__ import annotations

import pytest

from vjepa_ablations.ablation import Ablation, with_field, with_fields
from vjepa_ablations.masking import figure8, table4
from vjepa_exp.graph.tokens import MaskTokens, mask_draws
from vjepa_exp.spec.data import DataSpec, MixtureEntry
from vjepa_exp.spec.experiment import Recipe
from vjepa_exp.spec.masks import MultiBlockMask, RandomTubeMask
from vjepa_exp.spec.pretrain import PretrainSpec
from vjepa_exp.train.networks import mask_sampler
from vjepa_models.masks import mask_statistics


@pytest.fixture
def recipe() -> Recipe:
    return Recipe(pretrain=PretrainSpec(data=DataSpec(mixture=(MixtureEntry(dataset="k710"),))))


def test_table4_has_the_rows_of_the_paper(recipe: Recipe) -> None:
    levels = table4(recipe)
    assert list(levels) == ["tube", "causal6", "causal12", "multiblock"]
    assert levels["multiblock"] == recipe
    assert levels["tube"].pretrain.masks == (RandomTubeMask(kind="random_tube", ratio=0.9),)


@pytest.mark.parametrize(("level", "num_steps"), [("causal6", 3), ("causal12", 6)])
def test_causal_context_ends_after_the_first_frames(recipe: Recipe, level: str, num_steps: int) -> None:
    masks = table4(recipe)[level].pretrain.masks
    assert len(masks) == 2
    for mask, base in zip(masks, recipe.pretrain.masks, strict=True):
        assert isinstance(mask, MultiBlockMask)
        assert int(recipe.grid[0] * mask.max_temporal_keep) == num_steps  # tubelets of two frames
        assert mask.model_copy(update={"max_temporal_keep": 1.0}) == base


def test_an_ablation_that_changes_another_field_is_caught(recipe: Recipe) -> None:
    sloppy = Ablation(lambda base: [("a", with_field(base, "pretrain.optim.lr", 1.0))], ("pretrain.masks",), "")
    with pytest.raises(AssertionError, match=r"level 'a' changes pretrain.optim.lr, not only pretrain.masks"):
        sloppy(recipe)


def test_a_field_is_validated_when_it_is_set(recipe: Recipe) -> None:
    with pytest.raises(ValueError, match=r"not divisible by model.patch_size"):
        with_field(recipe, "pretrain.data.clip.resolution", 100)


def test_figure8_has_26_settings_of_which_one_is_repeated_under_another_seed(recipe: Recipe) -> None:
    levels = figure8(recipe)
    assert list(levels) == [f"M{i:02}" for i in range(1, 27)]
    masks = [level.pretrain.masks for level in levels.values()]
    assert len(set(masks)) == 25
    assert levels["M17"] == levels["M04"].model_copy(update={"seed": recipe.seed + 1000})
    assert levels["M26"] == recipe  # the default of the paper
    assert [len(levels[name].pretrain.masks) for name in ("M21", "M22", "M23")] == [1, 2, 3]


@pytest.mark.parametrize(
    ("level", "share"), [("M01", 0.25), ("M03", 0.735), ("M04", 0.751), ("M06", 0.188), ("M15", 0.547), ("M21", 0.662)]
)
def test_figure8_hides_what_its_settings_say(recipe: Recipe, level: str, share: float) -> None:
    """Shares of all tokens by an independent count: square blocks on a 14 x 14 grid, one clip."""
    (mask,) = figure8(recipe)[level].pretrain.masks
    sampler = mask_sampler(mask)
    assert mask_statistics(sampler, recipe.grid, group_size=1, num_groups=300).target == pytest.approx(share, abs=0.02)


def test_figure8_leaves_context_on_the_grid_of_a_laptop(recipe: Recipe) -> None:
    small = with_fields(recipe, {"model.patch_size": 32, "pretrain.data.clip.resolution": 192})
    assert small.grid == (8, 6, 6)
    for level in figure8(small).values():
        assert all(MaskTokens.mean(mask_draws(mask, small.grid, 4)).context > 0 for mask in level.pretrain.masks)
