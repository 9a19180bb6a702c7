from __future__ import annotations

from collections.abc import Callable

import pytest

from vjepa_exp.graph.variants import expand, known_ablations
from vjepa_exp.spec.errors import SpecError
from vjepa_exp.spec.load import ResolvedExperiment

Load = Callable[..., ResolvedExperiment]


def test_without_vary_there_is_one_variant_per_seed(load: Load) -> None:
    assert [(v.name, v.seed, v.recipe.seed) for v in expand(load())] == [("base", 3, 3)]
    variants = expand(load("seeds: [5, 7]\n"))
    assert [(v.name, v.seed, v.recipe.seed) for v in variants] == [("base", 5, 5), ("base", 7, 7)]


def test_axes_are_crossed_in_the_order_of_the_file(load: Load) -> None:
    variants = expand(
        load(
            "vary:\n  axes:\n    pretrain.objective: {features: {kind: features}, pixels: {kind: pixels}}\n"
            "    pretrain.optim.lr: {low: 1e-4, high: 1e-3}\n"
        )
    )
    assert [v.name for v in variants] == ["features-low", "features-high", "pixels-low", "pixels-high"]
    last = variants[-1]
    assert (last.recipe.pretrain.objective.kind, last.recipe.pretrain.optim.lr) == ("pixels", 1e-3)
    assert last.levels == {"pretrain.objective": "pixels", "pretrain.optim.lr": "high"}
    assert last.recipe.model == load().experiment.recipe.model


def test_an_axis_reaches_into_lists(load: Load) -> None:
    variants = expand(load("vary: {axes: {pretrain.masks.1.num_blocks: {one: 1, four: 4}}}\n"))
    assert [v.recipe.pretrain.masks[1].num_blocks for v in variants] == [1, 4]  # type: ignore[union-attr]


def test_an_ablation_gives_its_levels(load: Load) -> None:
    variants = expand(load("vary: {ablation: masking.table4}\nseeds: [1, 2]\n"))
    assert [(v.name, v.seed) for v in variants][:3] == [("tube", 1), ("tube", 2), ("causal6", 1)]
    assert len(variants) == 8


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            "vary:\n  axes:\n    pretrain.optim.lrr:\n      low: 1e-4\n",
            r"small.yaml:17: recipe.pretrain.optim.lrr: unknown key. Did you mean 'lr'\?",
        ),
        (
            "vary:\n  axes:\n    pretrain.optim.lr:\n      low: 1e-4\n      bad: fast\n",
            r'small.yaml:18: recipe.pretrain.optim.lr: .*number.*"fast"',
        ),
        ("vary:\n  axes:\n    seed.x: {a: 1}\n", r"small.yaml:16: .*no such field in the recipe"),
        ("vary:\n  axes:\n    seed: {}\n", r"small.yaml:16: vary.axes.seed: the axis has no values"),
        ("vary:\n  ablation: masking.tabel4\n", r"small.yaml:15: .*no ablation .*Did you mean 'masking.table4'"),
        ("vary:\n  ablation: pooling.table3\n", r"small.yaml:15: .*no ablation 'pooling.table3'"),
        ("vary:\n  axes:\n    seed: {a: 1, b: 1}\n", r"small.yaml:14: vary: variants 'a' and 'b' have the same recipe"),
        (
            "vary:\n  axes:\n    seed: {a: 1, a-b: 2}\n    pretrain.optim.lr: {b-c: 1e-3, c: 1e-4}\n",
            r"two variants are called 'a-b-c'",
        ),
        ("vary:\n  axes:\n    seed: {a: 1, b: 2}\nseeds: [1]\n", r"variant 'a' sets the seed, and so does 'seeds'"),
    ],
)  # fmt: skip
def test_a_wrong_factor_is_reported_where_it_is_written(load: Load, more: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        expand(load(more))


def test_an_axis_on_the_command_line_is_reported_as_such(load: Load) -> None:
    resolved = load("", "vary={axes: {pretrain.optim.epochs: {a: 1}}}")
    with pytest.raises(SpecError, match=r"--set vary=.*: recipe.pretrain.optim.epochs: unknown key"):
        expand(resolved)


def test_a_recipe_that_does_not_suit_an_ablation_is_the_users_error(load: Load) -> None:
    resolved = load("vary: {ablation: masking.table4}\n", "recipe.pretrain.masks=[{kind: random_tube, ratio: 0.5}]")
    with pytest.raises(SpecError, match=r"'masking.table4' does not suit this recipe: the base recipe's masks must be"):
        expand(resolved)


def test_ablations_are_known_by_file_and_function() -> None:
    assert "masking.table4" in known_ablations()
    assert all(ablation.description for ablation in known_ablations().values())
