"""Variants that train alike at a small scale are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from vjepa_exp.graph.coincide import coinciding, coinciding_note
from vjepa_exp.graph.plan import Plan, build_plan
from vjepa_exp.spec.datasets import Registry
from vjepa_exp.spec.load import read_experiment, resolve


@pytest.fixture
def figure8(repo_root: Path, tmp_path: Path):
    def plan(profile: str, *sets: str) -> Plan:
        file = read_experiment(repo_root / "experiments/figure8_masking.yaml")
        return build_plan(resolve(file, profile, sets), Registry(tmp_path / "datasets.yaml"))

    return plan


def test_blocks_of_two_sizes_are_one_on_a_coarse_grid(figure8) -> None:
    found = coinciding(figure8("laptop"))
    assert [labels for _, labels in found] == [("M03", "M16"), ("M04", "M05"), ("M09", "M10"), ("M14", "M15")]
    assert {grid for grid, _ in found} == {(4, 6, 6)}
    note = coinciding_note(figure8("laptop"))
    assert note.startswith("On this grid of 4x6x6 tokens the same masks are drawn by: M03 and M16; M04")


def test_seeds_do_not_repeat_them(figure8) -> None:
    assert coinciding(figure8("laptop", "seeds=[0,1,2]")) == coinciding(figure8("laptop"))


def test_on_the_papers_grid_all_differ(figure8) -> None:
    assert coinciding_note(figure8("paper")) == ""
