from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vjepa_exp.data.importers.something import something_v2
from vjepa_exp.spec.errors import UserError

LABELS = {"Approaching something with your camera": "0", "Holding something next to something": "1"}


def entry(video: str, template: str) -> dict[str, Any]:
    return {
        "id": video,
        "label": template.replace("[something]", "a mug").lower(),
        "template": template,
        "placeholders": ["a mug"] * template.count("["),
    }


def write(lists: Path, **parts: Any) -> Path:
    lists.mkdir(exist_ok=True)
    for name, part in parts.items():
        (lists / f"something-something-v2-{name}.json").write_text(json.dumps(part), encoding="utf-8")
    return lists


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    return write(
        tmp_path / "lists",
        labels=LABELS,
        train=[
            entry("78687", "Holding [something] next to [something]"),
            entry("42326", "Approaching [something] with your camera"),
        ],
        validation=[entry("74225", "Holding [something] next to [something]")],
        test=[{"id": "1420"}],
    )


def test_templates_are_classes_numbered_as_in_the_labels(touch, rows, lists: Path) -> None:
    listing = something_v2(touch("20bn/78687.webm", "20bn/42326.mp4"), lists)
    assert listing.classes == tuple(LABELS)
    assert rows(listing) == [
        ("20bn/78687.webm", "Holding something next to something", "train"),
        ("20bn/42326.mp4", "Approaching something with your camera", "train"),
        ("74225.mp4", "Holding something next to something", "val"),
    ]


def test_short_names_of_the_lists_serve_as_well(touch, rows, lists: Path) -> None:
    for path in list(lists.iterdir()):
        path.rename(lists / path.name.removeprefix("something-something-v2-"))
    assert len(rows(something_v2(touch("78687.webm"), lists))) == 3


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"labels": {"a": "0", "b": "2"}}, "is no object of class names and their numbers from 0"),
        ({"labels": ["a", "b"]}, "is no object of class names"),
        ({"train": [entry("7", "Burning [something]")]}, "video 7 is of the class 'Burning something'"),
        ({"train": [{"id": "7"}]}, "expected objects with id and template"),
    ],
)
def test_lists_that_cannot_be_understood_are_named(touch, lists: Path, parts: dict[str, Any], message: str) -> None:
    write(lists, **parts)
    with pytest.raises(UserError, match=message):
        something_v2(touch(), lists)


def test_a_file_that_is_no_json_is_named(touch, lists: Path) -> None:
    (lists / "something-something-v2-train.json").write_text("[{")
    with pytest.raises(UserError, match=r"v2-train.json is not valid JSON"):
        something_v2(touch(), lists)
