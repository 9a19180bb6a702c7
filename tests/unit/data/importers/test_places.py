from __future__ import annotations

from pathlib import Path

import pytest

from vjepa_exp.data.importers.places import places205
from vjepa_exp.spec.errors import UserError


def write(lists: Path, train: str, val: str) -> Path:
    lists.mkdir(exist_ok=True)
    (lists / "train_places205.csv").write_text(train)
    (lists / "val_places205.csv").write_text(val)
    return lists


def test_classes_have_the_numbers_of_the_lists_and_the_names_of_the_folders(touch, rows, tmp_path: Path) -> None:
    lists = write(
        tmp_path / "lists",
        "a/abbey/gsun_68.jpg 0\na/apartment_building/outdoor/gsun_1.jpg 3\na/abbey/gsun_69.jpg 0\n",
        "a/abbey/gsun_7.jpg 0\n",
    )
    listing = places205(touch(), lists)
    assert listing.classes == ("abbey", "1", "2", "apartment_building/outdoor")
    assert listing.table["label"].to_pylist() == [0, 3, 0, 0]
    assert rows(listing)[1:] == [
        ("a/apartment_building/outdoor/gsun_1.jpg", "apartment_building/outdoor", "train"),
        ("a/abbey/gsun_69.jpg", "abbey", "train"),
        ("a/abbey/gsun_7.jpg", "abbey", "val"),
    ]


def test_lists_that_contradict_themselves_are_refused(touch, tmp_path: Path) -> None:
    lists = write(tmp_path / "lists", "a/abbey/1.jpg 0\n", "a/alley/2.jpg 0\n")
    with pytest.raises(UserError, match="class 0 is 'abbey' and 'alley'"):
        places205(touch(), lists)
    with pytest.raises(UserError, match=r"train_places205.csv:1: expected 'path label'"):
        places205(touch(), write(lists, "a/abbey/1.jpg\n", ""))
