from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vjepa_exp.graph.plan import Plan, build_plan
from vjepa_exp.spec.datasets import DatasetEntry, Registry
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.load import ResolvedExperiment

Load = Callable[..., ResolvedExperiment]


def kinds(plan: Plan) -> list[list[str]]:
    return [[stage.kind for stage in level] for level in plan.levels()]


def fingerprints(plan: Plan) -> set[str]:
    return {stage.fingerprint for stage in plan.stages}


def test_a_study_is_data_then_pretraining_then_probes(load: Load, registry: Registry) -> None:
    plan = build_plan(load("baselines: [random_init]\n"), registry)
    assert kinds(plan) == [["data"], ["pretrain"], ["probe"] * 4]
    data, pretrain = plan.stages[:2]
    assert pretrain.inputs == (data,)
    assert plan.pretraining == {("base", 3): pretrain}
    for cell in plan.cells:
        assert cell.stage.input("pretrain") == (None if cell.baseline else pretrain)
        assert data in cell.stage.inputs
    assert [(c.column, c.baseline) for c in plan.cells] == [
        ("looks", False), ("moves", False), ("looks", True), ("moves", True),
    ]  # fmt: skip


def test_equal_work_of_several_variants_is_one_stage(load: Load, registry: Registry) -> None:
    more = "baselines: [random_init]\nvary: {axes: {evaluate.looks.label_fraction: {half: 0.5, all: 1.0}}}\n"
    plan = build_plan(load(more), registry)
    assert kinds(plan) == [["data"], ["pretrain"], ["probe"] * 6]  # probes on `moves` and their baselines are shared
    moves = [cell.stage for cell in plan.cells if cell.column == "moves" and not cell.baseline]
    assert len(moves) == 2
    assert moves[0].fingerprint == moves[1].fingerprint


def test_seeds_share_nothing_but_data(load: Load, registry: Registry) -> None:
    plan = build_plan(load("seeds: [1, 2]\n"), registry)
    assert kinds(plan) == [["data"], ["pretrain"] * 2, ["probe"] * 4]
    assert set(plan.pretraining) == {("base", 1), ("base", 2)}


def test_labels_are_the_words_of_the_study(load: Load, registry: Registry) -> None:
    plan = build_plan(load("baselines: [random_init]\n"), registry)
    assert [plan.label(stage) for stage in plan.stages] == [
        "data tiny", "pretrain V-JEPA", "probe looks: V-JEPA", "probe moves: V-JEPA",
        "probe looks: random init", "probe moves: random init",
    ]  # fmt: skip


def test_labels_tell_seeds_and_shared_stages_apart(load: Load, registry: Registry) -> None:
    more = "seeds: [1, 2]\nvary: {axes: {evaluate.looks.label_fraction: {half: 0.5, all: 1.0}}}\n"
    plan = build_plan(load(more), registry)
    labels = [plan.label(stage) for stage in plan.stages]
    assert len(set(labels)) == len(labels)
    assert "pretrain label_fraction = half, label_fraction = all, seed 2" in labels
    assert "probe looks: label_fraction = half, seed 1" in labels


@pytest.mark.parametrize(
    "change",
    ["execution.workers=7", "execution.device=cpu", "name=other", "title=other"],
)
def test_what_decides_no_number_changes_no_fingerprint(load: Load, registry: Registry, change: str) -> None:
    before, after = build_plan(load(), registry), build_plan(load("", change), registry)
    assert [s.id for s in before.stages] == [s.id for s in after.stages]


def test_the_name_of_a_column_changes_no_fingerprint(load: Load, registry: Registry) -> None:
    columns = "recipe.evaluate={a: {kind: attentive_probe, dataset: tiny_appearance}}"
    plan = build_plan(load("", columns), registry)
    assert fingerprints(plan) < fingerprints(build_plan(load(), registry))


@pytest.mark.parametrize(
    ("change", "num_changed"),
    [
        ("recipe.seed=4", 3),
        ("recipe.pretrain.optim.lr=1e-3", 3),
        ("recipe.model.predictor.depth=3", 3),
        ("recipe.evaluate.looks.optim.lr=1e-2", 1),
    ],
)
def test_a_changed_recipe_is_other_work(load: Load, registry: Registry, change: str, num_changed: int) -> None:
    before, after = build_plan(load(), registry), build_plan(load("", change), registry)
    assert len(fingerprints(after) - fingerprints(before)) == num_changed


def test_a_changed_manifest_is_other_work(load: Load, registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "mine.parquet").write_bytes(b"one")
    registry.register("mine", DatasetEntry(manifest="mine.parquet"))
    resolved = load("", "recipe.pretrain.data.mixture=[{dataset: mine}]")
    before = build_plan(resolved, registry)
    (tmp_path / "mine.parquet").write_bytes(b"two")
    after = build_plan(resolved, registry)
    assert len(fingerprints(after) - fingerprints(before)) == 3
    (tmp_path / "mine.parquet").unlink()
    with pytest.raises(UserError, match=r"manifest .*mine.parquet of data set 'mine' cannot be read: No such file"):
        build_plan(resolved, registry)


def test_missing_data_sets_are_listed_and_the_rest_is_planned(load: Load, registry: Registry) -> None:
    resolved = load("", "recipe.pretrain.data.mixture=[{dataset: k710}, {dataset: ssv2}]")
    plan = build_plan(resolved, registry)
    assert plan.missing_datasets == ("k710", "ssv2")
    assert len(plan.stages) == 4


def test_fingerprints_are_the_same_in_another_process(load: Load, registry: Registry) -> None:
    plan = build_plan(load(), registry)
    code = (
        "import sys; from pathlib import Path; from vjepa_exp.graph.plan import build_plan\n"
        "from vjepa_exp.spec.datasets import Registry; from vjepa_exp.spec.load import read_experiment, resolve\n"
        "plan = build_plan(resolve(read_experiment(Path(sys.argv[1])), 'paper'), Registry(Path('none')))\n"
        "print(*(s.fingerprint for s in plan.stages))\n"
        "print([m for m in ('torch', 'ray', 'numpy') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(plan.experiment.path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [stage.fingerprint for stage in plan.stages]
    assert done.stderr.strip() == "[]"
