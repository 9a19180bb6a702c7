"""Every factor keeps its promise under every profile, and says what the paper says."""

from __future__ import annotations

from pathlib import Path

import pytest

from vjepa_ablations import data_mix, ema, labels, objective, pooling, probe_optim, resolution, size, truncation, views
from vjepa_ablations.ablation import changes, with_field
from vjepa_exp.graph.variants import known_ablations
from vjepa_exp.spec.data import MixtureEntry
from vjepa_exp.spec.experiment import Recipe
from vjepa_exp.spec.load import read_experiment, resolve

TABLE4 = Path(__file__).parents[3] / "experiments" / "table4_masking.yaml"


@pytest.fixture(params=["paper", "gpu", "laptop", "smoke"])
def any_recipe(request: pytest.FixtureRequest) -> Recipe:
    return resolve(read_experiment(TABLE4), request.param).experiment.recipe


@pytest.fixture
def paper() -> Recipe:
    return resolve(read_experiment(TABLE4), "paper").experiment.recipe


@pytest.mark.parametrize("name", known_ablations())
def test_levels_differ_and_change_only_what_the_factor_owns(any_recipe: Recipe, name: str) -> None:
    factor = known_ablations()[name]
    levels = factor(any_recipe)  # raises where another field changed
    assert len({recipe.model_dump_json() for recipe in levels.values()}) == len(levels)
    assert factor.description.endswith(".")
    changed = {field for recipe in levels.values() for field in changes(any_recipe, recipe)}
    for own in factor.fields:
        first = own.split(".*")[0]
        assert any(field.startswith(first) for field in changed), f"{name} owns {own} and never changes it"


def test_data_mixes_are_those_of_table_2(paper: Recipe) -> None:
    levels = data_mix.table2(paper)
    mixes = {name: [entry.dataset for entry in recipe.pretrain.data.mixture] for name, recipe in levels.items()}
    assert mixes["l_k710"] == ["k710"]
    assert mixes["h_vm2m"] == mixes["l_vm2m"] == ["k710", "ssv2", "howto100m"]
    assert {name: recipe.model.arch for name, recipe in levels.items() if name.endswith("k710_ssv2")} == {
        "l_k710_ssv2": "vit_large",
        "h_k710_ssv2": "vit_huge",
    }


def test_a_mix_shows_a_set_as_the_base_does(paper: Recipe) -> None:
    base = with_field(paper, "pretrain.data.mixture", (MixtureEntry(dataset="k710", exclude="k710.csv"),))
    first, second = data_mix.mixes(base)["k710_ssv2"].pretrain.data.mixture
    assert (first.dataset, first.exclude) == ("k710", "k710.csv")
    assert (second.dataset, second.exclude) == ("ssv2", None)
    weighted = with_field(paper, "pretrain.data.mixture", (MixtureEntry(dataset="k710", weight=1.0),))
    with pytest.raises(ValueError, match="mixture: give every data set a weight, or none"):
        data_mix.mixes(weighted)


def test_the_largest_model_has_the_third_column_of_table_8(paper: Recipe) -> None:
    largest = size.table6(paper)["vjepa_h384"]
    assert largest.model.arch == "vit_huge"
    assert largest.pretrain.data.clip.resolution == 384
    assert {probe.clip.resolution for probe in largest.evaluate.values()} == {384}
    assert (largest.pretrain.optim.batch_size, largest.pretrain.mask_group_size) == (2400, 10)


def test_sizes_of_free_choice_grow_too(any_recipe: Recipe) -> None:
    larger = size.one_size_up(any_recipe.model)
    assert larger.encoder.embed_dim > any_recipe.model.encoder.embed_dim
    assert larger.encoder.depth >= any_recipe.model.encoder.depth


def test_what_the_other_factors_set(paper: Recipe) -> None:
    assert [r.pretrain.objective.kind for r in objective.table1(paper).values()] == ["pixels", "features"]
    assert [r.evaluate["k400"].kind for r in pooling.table3(paper).values()] == ["linear_probe", "attentive_probe"]
    assert pooling.table3(paper)["attentive"] == paper
    fractions = [r.evaluate["ssv2"].label_fraction for r in labels.table7(paper).values()]  # type: ignore[union-attr]
    assert fractions == [0.05, 0.1, 0.5, 1.0]
    assert [r.evaluate["k400"].clips for r in views.table14(paper).values()] == [1, 2, 8]  # type: ignore[union-attr]
    assert [r.pretrain.data.clip.resolution for r in resolution.scales(paper).values()] == [112, 224, 384]
    assert [r.pretrain.mask_group_size for r in truncation.group_size(paper).values()] == [1, 6, 24]
    assert [r.pretrain.optim.ema for r in ema.momentum(paper).values()] == [0.0, 0.98, 0.998, 0.998]
    rates = [r.evaluate["k400"].optim.lr for r in probe_optim.learning_rate(paper).values()]  # type: ignore[union-attr]
    assert rates == pytest.approx([1e-4, 3e-4, 1e-3, 3e-3, 1e-2])


def test_there_is_nothing_larger_than_the_largest(paper: Recipe) -> None:
    giant = paper.model.model_copy(update={"arch": "vit_giant"})
    with pytest.raises(ValueError, match="no encoder larger than vit_giant"):
        size.one_size_up(giant)
