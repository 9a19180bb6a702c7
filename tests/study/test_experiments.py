"""Every experiment of the project resolves and plans under every profile."""

from __future__ import annotations

from pathlib import Path

import pytest

from vjepa_exp.graph.plan import Plan, build_plan
from vjepa_exp.spec.augment import AutoAugment, CropFlip, RandAugment, RandomErasing
from vjepa_exp.spec.datasets import PAPER_SETS, Registry
from vjepa_exp.spec.document import read_yaml
from vjepa_exp.spec.load import PAPER, read_experiment, resolve

ROOT = Path(__file__).parents[2] / "experiments"
EXPERIMENTS = sorted(ROOT.glob("*.yaml"))
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
    assert plan.cells
    assert set(plan.missing_datasets) <= set(PAPER_SETS)
    if profile in ("laptop", "smoke"):
        assert not plan.missing_datasets
        assert plan.experiment.experiment.execution.device == "cpu"


@pytest.mark.parametrize(
    "path", [*EXPERIMENTS, *sorted((ROOT / "profiles").glob("*.yaml"))], ids=lambda path: path.stem
)
def test_a_file_opens_with_its_schema(path: Path) -> None:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    kind = "../docs/experiment" if path.parent == ROOT else "../../docs/profile"
    assert first == f"# yaml-language-server: $schema={kind}.schema.json"


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_variants_and_columns_of_a_table_are_rows_and_columns_of_the_paper(path: Path) -> None:
    plan = plan_of(path, PAPER)
    paper = plan.experiment.experiment.paper
    if paper is None:
        pytest.skip("stands beside no table")
    published = read_yaml(ROOT / "paper" / f"table{paper.table}.yaml").data
    assert {variant.name for variant in plan.variants} <= {row["id"] for row in published["rows"]}
    assert {cell.column for cell in plan.cells} <= {column["id"] for column in published["columns"]}


@pytest.mark.parametrize("path", sorted((ROOT / "paper").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_published_table_is_whole(path: Path) -> None:
    table = read_yaml(path).data
    assert path.stem == f"table{table['table']}"
    columns = {column["id"] for column in table["columns"]}
    for row in table["rows"]:
        assert set(row["values"]) == columns
        assert row["label"]
        if "%" in {column["unit"] for column in table["columns"]}:
            assert all(0 < value < 100 for value in row["values"].values())


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
