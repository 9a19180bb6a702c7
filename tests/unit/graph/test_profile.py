from __future__ import annotations

from pathlib import Path

import pytest

from vjepa_exp.graph.machine import Gpu, Machine, this_machine
from vjepa_exp.graph.profile import choose_profile
from vjepa_exp.spec.datasets import DatasetEntry, Registry
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.load import ExperimentFile, read_experiment

LAPTOP = Machine("some CPU", 2, 8 * 2**30)
ONE_GPU = Machine("some CPU", 16, 64 * 2**30, (Gpu("NVIDIA A10", 22.5),))
NODE = Machine("some CPU", 96, 1024 * 2**30, (Gpu("NVIDIA A100-SXM4-80GB", 80.0),) * 8)
TABLE4 = ("k710", "ssv2", "k400", "in1k")
ROOT = Path(__file__).parents[3]


@pytest.fixture
def table4() -> ExperimentFile:
    return read_experiment(ROOT / "experiments" / "table4_masking.yaml")


def register(registry: Registry, *names: str) -> None:
    for name in names:
        (registry.path.parent / f"{name}.parquet").write_bytes(b"")
        registry.register(name, DatasetEntry(manifest=f"{name}.parquet"))


@pytest.mark.parametrize(
    ("machine", "datasets", "expected"),
    [
        (LAPTOP, (), "laptop"),
        (NODE, (), "laptop"),
        (LAPTOP, TABLE4, "laptop"),
        (ONE_GPU, TABLE4, "gpu"),
        (ONE_GPU, TABLE4[:3], "laptop"),
        (NODE, TABLE4, "paper"),
    ],
)
def test_the_largest_profile_with_data_and_devices_is_taken(
    table4: ExperimentFile, registry: Registry, machine: Machine, datasets: tuple[str, ...], expected: str
) -> None:
    register(registry, *datasets)
    assert choose_profile(table4, registry, machine).name == expected


def test_the_reason_says_what_larger_profiles_lack(table4: ExperimentFile, registry: Registry) -> None:
    register(registry, "k710", "ssv2", "k400")
    choice = choose_profile(table4, registry, LAPTOP)
    assert choice.others["paper"] == "needs the data set in1k and 8 GPUs with 70 GB"
    assert choice.others["gpu"] == "needs the data set in1k and 1 GPU with 20 GB"
    assert choice.others["smoke"] == "smaller"
    assert "paper needs the data set in1k" in choice.reason


def test_an_experiment_without_profiles_runs_as_it_stands(registry: Registry) -> None:
    choice = choose_profile(read_experiment(ROOT / "experiments" / "quickstart.yaml"), registry, LAPTOP)
    assert (choice.name, choice.others) == ("paper", {})


def test_where_nothing_fits_every_lack_is_named(registry: Registry, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("name: x\nrecipe: {pretrain: {data: {mixture: [{dataset: ava}]}}}\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"x.yaml: no profile fits this machine: paper needs the data set ava"):
        choose_profile(read_experiment(path), registry, LAPTOP)


def test_this_machine_has_what_this_process_may_use() -> None:
    machine = this_machine()
    assert machine.cores >= 1
    assert machine.memory_bytes > 2**28
    assert machine.cpu
