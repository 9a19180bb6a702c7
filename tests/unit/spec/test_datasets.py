"""The registry: demo sets are always there, others by file, and a missing one says how to get it."""

from __future__ import annotations

from pathlib import Path

import pytest

from vjepa_exp.spec.datasets import DatasetEntry, Registry
from vjepa_exp.spec.errors import SpecError, UserError


def test_register_survives_a_new_reading(tmp_path: Path) -> None:
    path = tmp_path / "datasets.yaml"
    Registry(path).register("mine", DatasetEntry(manifest="sets/mine.parquet", kind="image"))
    registry = Registry(path)
    assert registry.has("mine")
    assert registry.kind("mine") == "image"
    assert registry.manifest("mine") == tmp_path / "sets" / "mine.parquet"


def test_demo_sets_need_no_file(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "datasets.yaml")
    assert registry.demo_family("demo_motion") == "demo"
    assert registry.kind("demo_stills") == "image"


def test_missing_set_says_what_it_is_and_how_to_register_it(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "datasets.yaml")
    assert "Something-Something v2" in registry.missing("ssv2")
    assert "vjepa-exp data import ssv2 FOLDER" in registry.missing("ssv2")
    assert "vjepa-exp data index FOLDER_OR_CSV --out mine" in registry.missing("mine")
    assert "Did you mean 'demo_motion'?" in registry.missing("demo_moton")


def test_a_demo_name_cannot_be_taken(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="demo set"):
        Registry(tmp_path / "datasets.yaml").register("demo_motion", DatasetEntry(manifest="x"))


def test_a_wrong_entry_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "datasets.yaml"
    path.write_text("datasets:\n  mine:\n    manfest: x\n", encoding="utf-8")
    with pytest.raises(SpecError, match=r"datasets.yaml:3: datasets.mine.manfest: unknown key"):
        Registry(path)
