from __future__ import annotations

import pytest

from vjepa_ablations.ablation import Ablation, with_field
from vjepa_ablations.masking import table4
from vjepa_exp.spec.data import DataSpec, MixtureEntry
from vjepa_exp.spec.experiment import Recipe
from vjepa_exp.spec.masks import MultiBlockMask, RandomTubeMask
from vjepa_exp.spec.pretrain import PretrainSpec


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
    sloppy = Ablation(lambda base: {"a": with_field(base, "pretrain.optim.lr", 1.0)}, ("pretrain.masks",), "")
    with pytest.raises(AssertionError, match=r"level 'a' changes more than pretrain.masks"):
        sloppy(recipe)


def test_a_field_is_validated_when_it_is_set(recipe: Recipe) -> None:
    with pytest.raises(ValueError, match=r"not divisible by model.patch_size"):
        with_field(recipe, "pretrain.data.clip.resolution", 100)
