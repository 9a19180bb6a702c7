"""Every experiment of the project resolves and plans under every profile."""

from __future__ import annotations

from pathlib import Path

import pytest

from vjepa_exp.graph.cost import stage_cost
from vjepa_exp.graph.plan import Plan, build_plan
from vjepa_exp.report.published import require_cells
from vjepa_exp.spec.augment import AutoAugment, CropFlip, RandAugment, RandomErasing
from vjepa_exp.spec.collection import collected, is_collection
from vjepa_exp.spec.datasets import PAPER_SETS, Registry
from vjepa_exp.spec.document import read_yaml
from vjepa_exp.spec.fragments import check_fragments
from vjepa_exp.spec.load import PAPER, read_experiment, resolve
from vjepa_exp.spec.published import read_published_file

ROOT = Path(__file__).parents[2] / "experiments"
FILES = sorted(ROOT.glob("*.yaml"))
EXPERIMENTS = [path for path in FILES if not is_collection(read_yaml(path))]
UNDER_PROFILES = [
    pytest.param(path, profile, id=f"{path.stem}-{profile}")
    for path in EXPERIMENTS
    for profile in read_experiment(path).profile_names
]


def plan_of(path: Path, profile: str) -> Plan:
    return build_plan(resolve(read_experiment(path), profile), Registry(Path("no datasets.yaml")))


@pytest.mark.parametrize(("path", "profile"), UNDER_PROFILES)
def test_an_experiment_plans_under_its_profiles(path: Path, profile: str) -> None:
    plan = plan_of(path, profile)
    assert plan.cells or plan.gaps
    assert set(plan.missing_datasets) <= set(PAPER_SETS)
    if profile in ("laptop", "smoke"):
        assert not plan.missing_datasets
        assert plan.experiment.experiment.execution.device == "cpu"
    for stage in plan.stages:
        stage_cost(stage, plan.experiment.experiment.execution, Registry(Path("no datasets.yaml")))


@pytest.mark.parametrize("path", [*FILES, *sorted((ROOT / "profiles").glob("*.yaml"))], ids=lambda path: path.stem)
def test_a_file_opens_with_its_schema(path: Path) -> None:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    kind = "../docs/experiment" if path.parent == ROOT else "../../docs/profile"
    assert first == f"# yaml-language-server: $schema={kind}.schema.json"


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_a_table_yields_every_printed_cell(path: Path) -> None:
    plan = plan_of(path, PAPER)
    require_cells(plan)
    if plan.experiment.experiment.paper is not None:
        assert {"laptop", "gpu", "smoke"} <= set(plan.experiment.experiment.profiles)


def test_the_paper_is_all_its_tables_and_figures() -> None:
    members = collected(read_yaml(ROOT / "paper.yaml"))
    papers = [read_experiment(path).document.get(("paper",)) for path in members]
    assert {paper["table"] for paper in papers if "table" in paper} == {1, 2, 3, 4, 5, 6, 7, 12, 13, 14, 15, 16}
    assert {paper["figure"] for paper in papers if "figure" in paper} == {1, 4, 5, 8}
    assert set(members) == {path for path in EXPERIMENTS if read_experiment(path).document.get(("paper",))}


@pytest.mark.parametrize("path", sorted((ROOT / "paper").glob("*.yaml")), ids=lambda path: path.stem)
def test_published_numbers_are_whole_and_untouched(path: Path) -> None:
    table = read_published_file(path)
    columns = {column.id: column.unit for column in table.columns if not column.label.endswith("(section 5.2)")}
    for row in table.rows:
        assert set(row.values) >= set(columns)
        percentages = [value for name, value in row.values.items() if columns.get(name) == "%" and value is not None]
        assert all(0 < value < 100 for value in percentages)


def test_every_block_is_used_and_valid() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in EXPERIMENTS)
    for path in sorted((ROOT / "fragments").glob("*.yaml")):
        check_fragments(path)
        for kind, blocks in read_yaml(path).data.items():
            for name in blocks if kind != "fragments" else ():
                assert f"fragments/{path.name}#{kind}.{name}" in text, f"{path.name}: {kind}.{name} is used nowhere"


def test_table_4_is_the_papers_recipe() -> None:
    plan = plan_of(ROOT / "table4_masking.yaml", PAPER)
    recipe = plan.experiment.experiment.recipe
    assert (recipe.model.arch, recipe.grid) == ("vit_large", (8, 14, 14))
    assert [entry.dataset for entry in recipe.pretrain.data.mixture] == ["k710", "ssv2"]
    assert (recipe.pretrain.optim.batch_size, recipe.pretrain.optim.iterations) == (3072, 90_000)
    assert len(plan.stages) == 4 + 12
    videos = CropFlip(scale=(0.08, 1), ratio=(0.75, 4 / 3), flip=0, policy=RandAugment(), erasing=RandomErasing())
    images = videos.model_copy(update={"interpolation": "bicubic", "flip": 0.5, "policy": AutoAugment()})
    assert {name: probe.augment for name, probe in recipe.evaluate.items()} == {
        "k400": videos,
        "ssv2": videos,
        "in1k": images,
    }


@pytest.mark.parametrize(("profile", "policies"), [("gpu", 0), ("laptop", 0), ("smoke", 0), (PAPER, 3)])
def test_only_the_papers_profile_affords_policies(profile: str, policies: int) -> None:
    recipe = plan_of(ROOT / "table4_masking.yaml", profile).experiment.experiment.recipe
    augments = [probe.augment for probe in recipe.evaluate.values()]
    assert sum(isinstance(a, CropFlip) and a.policy is not None and a.erasing is not None for a in augments) == policies
    assert sum(isinstance(a, CropFlip) for a in augments) == (3 if profile in (PAPER, "gpu") else 0)
