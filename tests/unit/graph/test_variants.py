from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from vjepa_ablations.ablation import Ablation, with_field
from vjepa_exp.graph.variants import expand, known_ablations
from vjepa_exp.spec.errors import SpecError
from vjepa_exp.spec.evaluate import AttentiveProbe, LinearProbe
from vjepa_exp.spec.load import ResolvedExperiment, read_experiment, resolve
from vjepa_exp.spec.masks import RandomTubeMask

Load = Callable[..., ResolvedExperiment]


def under(resolved: ResolvedExperiment, stand_ins: dict[str, str]) -> ResolvedExperiment:
    """The experiment under a profile that has only these stand-ins."""
    return replace(resolved, stand_ins=stand_ins)


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


def test_axes_that_end_alike_are_told_apart_in_labels(load: Load) -> None:
    rates = "{pretrain.optim.lr: {low: 1e-4}, evaluate.looks.optim.lr: {high: 1e-2}, seed: {one: 1}}"
    [variant] = expand(load(f"vary: {{axes: {rates}}}\n"))
    assert variant.label == "pretrain.optim.lr = low, looks.optim.lr = high, seed = one"


def test_an_axis_over_a_kind_keeps_what_the_base_says_beside_it(load: Load) -> None:
    kinds = "{l: linear_probe, a: attentive_probe}"
    more = f"vary: {{axes: {{evaluate.looks.optim.lr: {{high: 1e-1}}, evaluate.looks.kind: {kinds}}}}}\n"
    linear, attentive = expand(load(more, "recipe.evaluate.looks.clips=2"))
    assert [v.recipe.evaluate["looks"].kind for v in (linear, attentive)] == ["linear_probe", "attentive_probe"]
    for variant in (linear, attentive):
        probe = variant.recipe.evaluate["looks"]
        assert isinstance(probe, AttentiveProbe | LinearProbe)
        assert (probe.dataset, probe.clips, probe.optim.lr) == ("tiny_appearance", 2, 0.1)
        assert probe.clip == variant.recipe.pretrain.data.clip


def test_what_another_kind_does_not_know_is_reported_where_it_is_written(load: Load) -> None:
    more = "vary: {axes: {evaluate.looks.kind: {linear: linear_probe}}}\n"
    with pytest.raises(SpecError, match=r"--set recipe.evaluate.looks.depth=2: .*unknown key"):
        expand(load(more, "recipe.evaluate.looks.depth=2"))
    masks = "vary: {axes: {pretrain.masks.0.ratio: {most: 0.9}, pretrain.masks.0.kind: {tube: random_tube}}}\n"
    [variant] = expand(load(masks))  # the base writes no masks: nothing is left of the default one
    assert variant.recipe.pretrain.masks[0] == RandomTubeMask(kind="random_tube", ratio=0.9)


def test_an_axis_reaches_into_lists(load: Load) -> None:
    variants = expand(load("vary: {axes: {pretrain.masks.1.num_blocks: {one: 1, four: 4}}}\n"))
    assert [v.recipe.pretrain.masks[1].num_blocks for v in variants] == [1, 4]  # type: ignore[union-attr]


def test_an_axis_reaches_a_column_that_is_named_by_a_number(load: Load) -> None:
    path = load().path
    path.write_text(path.read_text().replace("looks:", "'5':") + "vary: {axes: {evaluate.5.clips: {one: 1, two: 2}}}\n")
    assert [v.recipe.evaluate["5"].clips for v in expand(resolve(read_experiment(path), "paper"))] == [1, 2]  # type: ignore[union-attr]


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
        ("vary:\n  axes:\n    pretrain.masks.²: {a: 1}\n", r"small.yaml:16: .*no such field in the recipe"),
        ("vary:\n  axes:\n    seed: {}\n", r"small.yaml:16: vary.axes.seed: the axis has no values"),
        ("vary:\n  ablation: masking.tabel4\n", r"small.yaml:15: .*no ablation .*Did you mean 'masking.table4'"),
        ("vary:\n  ablation: cooking.table3\n", r"small.yaml:15: .*no ablation 'cooking.table3'"),
        ("vary:\n  axes:\n    seed:\n      a: 1\n      a: 2\n", r"small.yaml:18: vary.axes.seed.a: key is given twice"),
        (
            "vary:\n  search:\n    space:\n      pretrain.optim.lrr: {kind: loguniform, low: 1e-5, high: 1e-3}\n",
            r"small.yaml:17: recipe.pretrain.optim.lrr: unknown key. Did you mean 'lr'\?",
        ),
        (
            "vary:\n  search:\n    space:\n      pretrain.optim.lr: {kind: loguniform, low: 1e-3, high: 1e-5}\n",
            r"small.yaml:17: vary.search.space.pretrain.optim.lr.low: 0.001 must be below high",
        ),
        (
            "vary:\n  search: {space: {seed: {kind: grid, values: [1, 1]}}}\n",
            r"small.yaml:14: vary: variants 't000' and 't001' have the same recipe",
        ),
        (
            "vary:\n  ablation: masking.table4\n  axes: {seed: {a: 1}}\n",
            r"small.yaml:14: vary: give one of 'ablation', 'axes' and 'search'",
        ),
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


def test_an_ablation_that_moves_the_seed_moves_each_of_several(load: Load) -> None:
    variants = expand(load("vary: {ablation: masking.figure8}\nseeds: [3, 4]\n"))
    assert all(variant.recipe.seed == variant.seed for variant in variants)
    assert {v.seed for v in variants if v.name == "M04"} == {3, 4}
    assert {v.seed for v in variants if v.name == "M17"} == {1003, 1004}


def test_an_axis_on_the_command_line_is_reported_as_such(load: Load) -> None:
    resolved = load("", "vary={axes: {pretrain.optim.epochs: {a: 1}}}")
    with pytest.raises(SpecError, match=r"--set vary=.*: recipe.pretrain.optim.epochs: unknown key"):
        expand(resolved)


def test_a_recipe_that_does_not_suit_an_ablation_is_the_users_error(load: Load) -> None:
    resolved = load("vary: {ablation: masking.table4}\n", "recipe.pretrain.masks=[{kind: random_tube, ratio: 0.5}]")
    with pytest.raises(SpecError, match=r"'masking.table4' does not suit this recipe: the base recipe's masks must be"):
        expand(resolved)


def test_data_sets_that_only_a_level_names_get_stand_ins_and_nothing_else_changes(load: Load) -> None:
    merged = "{dataset: k710, exclude: a.csv, weight: 2}, {dataset: ssv2, weight: 1}"
    mixture = f"[{merged}, {{dataset: mine, exclude: b.csv, weight: 1}}]"
    resolved = load(f"vary: {{axes: {{pretrain.data.mixture: {{three: {mixture}, one: [{{dataset: only}}]}}}}}}\n")
    three, one = expand(under(resolved, {"k710": "tiny", "ssv2": "tiny"}))
    assert [(e.dataset, e.weight, e.exclude) for e in three.recipe.pretrain.data.mixture] == [
        ("tiny", 3, None),
        ("mine", 1, "b.csv"),
    ]
    assert [e.dataset for e in one.recipe.pretrain.data.mixture] == ["only"]


def test_a_probe_whose_data_set_varies_gets_stand_ins_too(load: Load) -> None:
    axis = "vary: {axes: {evaluate.looks.dataset: {one: k400, two: mine}}}\n"
    one, two = expand(under(load(axis), {"k400": "tiny_stills"}))
    assert [v.recipe.evaluate["looks"].dataset for v in (one, two)] == ["tiny_stills", "mine"]
    search = "vary: {search: {space: {evaluate.looks.dataset: {kind: grid, values: [k400, mine]}}}}\n"
    drawn = expand(under(load(search), {"k400": "tiny_stills"}))
    assert [v.recipe.evaluate["looks"].dataset for v in drawn] == ["tiny_stills", "mine"]
    with pytest.raises(SpecError, match="variants 'one' and 'two' have the same recipe"):
        expand(under(load(axis), {"k400": "mine"}))


def test_data_sets_of_the_base_are_settled(load: Load) -> None:
    mixture = "recipe.pretrain.data.mixture=[{dataset: k710}]"
    resolved = load("vary: {ablation: data_mix.mixes}\n", mixture, "recipe.evaluate.looks.dataset=k400")
    variants = expand(under(resolved, {"k710": "tiny", "k400": "tiny", "ssv2": "small", "howto100m": "large"}))
    assert {v.recipe.evaluate["looks"].dataset for v in variants} == {"k400"}
    mixes = {v.name: [e.dataset for e in v.recipe.pretrain.data.mixture] for v in variants}
    assert mixes["k710"] == ["k710"]
    assert mixes["vm2m"] == ["k710", "small", "large"]


def test_ablations_are_known_by_file_and_function() -> None:
    assert "masking.table4" in known_ablations()
    assert all(ablation.description for ablation in known_ablations().values())


SEARCH = """\
vary:
  search:
    num_samples: 3
    seed: 5
    space:
      pretrain.optim.lr: {kind: loguniform, low: 1e-5, high: 1e-2}
      pretrain.optim.weight_decay: {kind: choice, values: [0.01, 0.1]}
      pretrain.mask_group_size: {kind: grid, values: [2, 4]}
"""


def test_a_search_draws_by_its_seed_and_crosses_its_grids(load: Load) -> None:
    variants = expand(load(SEARCH))
    assert [v.name for v in variants] == [f"t{i:03}" for i in range(6)]
    assert [v.recipe.pretrain.mask_group_size for v in variants] == [2, 4] * 3
    rates = [v.recipe.pretrain.optim.lr for v in variants]
    assert len(set(rates)) == 3
    assert all(1e-5 <= rate <= 1e-2 for rate in rates)
    assert {v.recipe.pretrain.optim.weight_decay for v in variants} <= {0.01, 0.1}
    assert variants[0].levels["pretrain.optim.lr"] == f"{rates[0]:.4g}"


def test_more_draws_keep_the_first_ones_and_another_seed_changes_them(load: Load) -> None:
    first = [v.recipe for v in expand(load(SEARCH))]
    assert [v.recipe for v in expand(load(SEARCH, "vary.search.num_samples=4"))][:6] == first
    assert not set(map(str, first)) & {str(v.recipe) for v in expand(load(SEARCH, "vary.search.seed=6"))}


def test_loguniform_is_even_over_factors_of_ten(load: Load) -> None:
    space = "{pretrain.optim.lr: {kind: loguniform, low: 1e-6, high: 1e-2}}"
    variants = expand(load(f"vary: {{search: {{num_samples: 400, space: {space}}}}}\n"))
    below = [sum(v.recipe.pretrain.optim.lr < edge for v in variants) / len(variants) for edge in (1e-5, 1e-4, 1e-3)]
    assert below == pytest.approx([0.25, 0.5, 0.75], abs=0.08)


def test_equal_draws_are_one_variant(load: Load) -> None:
    space = "{pretrain.optim.weight_decay: {kind: choice, values: [0.01, 0.1]}}"
    assert len(expand(load(f"vary: {{search: {{num_samples: 50, space: {space}}}}}\n"))) == 2


@pytest.mark.parametrize("wrong", ["pretrain.optim.lrr", "pretrain.mask"])
def test_a_factor_that_names_an_unknown_field_is_named_with_its_file(load: Load, wrong: str) -> None:
    factor = Ablation(lambda base: [("a", with_field(base, wrong, 1))], (wrong,), "")
    with patched_ablation(factor), pytest.raises(SpecError) as caught:
        expand(load("vary: {ablation: masking.table4}\n"))
    assert "small.yaml:14: vary.ablation: " in str(caught.value)
    assert f"there is no field '{wrong}'" in str(caught.value)
    assert f"{__file__}:" in str(caught.value)


def test_two_levels_of_one_name_and_broken_promises_are_named(load: Load) -> None:
    twice = Ablation(lambda base: [("a", base), ("a", base)], (), "")
    with patched_ablation(twice), pytest.raises(SpecError, match="two levels are called 'a'"):
        expand(load("vary: {ablation: masking.table4}\n"))
    sloppy = Ablation(lambda base: [("a", with_field(base, "seed", 9))], ("pretrain.masks",), "")
    with patched_ablation(sloppy), pytest.raises(SpecError, match=r"level 'a' changes seed, not only pretrain.masks"):
        expand(load("vary: {ablation: masking.table4}\n"))


@contextmanager
def patched_ablation(factor: Ablation) -> Iterator[None]:
    """A user's factor in the place of `masking.table4`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vjepa_ablations.masking.table4", factor)
        yield
