from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vjepa_exp.data.importers.inaturalist import inaturalist_2021
from vjepa_exp.spec.errors import UserError

NAMES = ("Lumbricus terrestris", "Sabella spallanzanii")


def folder(category: int) -> str:
    return f"{category:05d}_Animalia_Annelida_{NAMES[category].replace(' ', '_')}"


def annotations(split: str, categories: list[int]) -> dict[str, Any]:
    """As the competition publishes them, every field that it has."""
    return {
        "info": {"year": 2021, "version": "iNaturalist 2021", "description": "", "contributor": "", "url": ""},
        "images": [
            {
                "id": 100 + i,
                "file_name": f"{split}/{folder(category)}/{i}.jpg",
                "width": 500,
                "height": 375,
                "license": 0,
                "rights_holder": "somebody",
                "date": "2015-07-01 00:00:00+00:00",
                "latitude": 43.8,
                "longitude": None,
                "location_uncertainty": 77,
            }
            for i, category in enumerate(categories)
        ],
        "categories": [
            {
                "id": i,
                "name": name,
                "common_name": "a worm",
                "supercategory": "Animalia",
                "kingdom": "Animalia",
                "phylum": "Annelida",
                "class": "Clitellata",
                "order": "Haplotaxida",
                "family": "Lumbricidae",
                "genus": name.split()[0],
                "specific_epithet": name.split()[1],
                "image_dir_name": folder(i),
            }
            for i, name in enumerate(NAMES)
        ],
        "annotations": [
            {"id": i, "image_id": 100 + i, "category_id": category} for i, category in enumerate(categories)
        ],
        "licenses": [{"id": 0, "name": "Attribution", "url": "https://example.org"}],
    }


def write(lists: Path, **splits: Any) -> Path:
    lists.mkdir(exist_ok=True)
    for split, content in splits.items():
        (lists / f"{split}.json").write_text(json.dumps(content))
    return lists


def test_species_of_both_splits(touch, rows, tmp_path: Path) -> None:
    lists = write(tmp_path / "lists", train=annotations("train", [1, 0, 1]), val=annotations("val", [0]))
    listing = inaturalist_2021(touch(), lists)
    assert listing.classes == NAMES
    assert rows(listing) == [
        (f"train/{folder(1)}/0.jpg", NAMES[1], "train"),
        (f"train/{folder(0)}/1.jpg", NAMES[0], "train"),
        (f"train/{folder(1)}/2.jpg", NAMES[1], "train"),
        (f"val/{folder(0)}/0.jpg", NAMES[0], "val"),
    ]


def test_the_small_training_split_does_not_pass_for_the_whole(touch, tmp_path: Path) -> None:
    lists = write(tmp_path / "lists", train_mini=annotations("train_mini", [1]), val=annotations("val", [0]))
    with pytest.raises(UserError, match=r"holds no train.json"):
        inaturalist_2021(touch(), lists)


def test_lists_that_cannot_be_understood_are_named(touch, tmp_path: Path) -> None:
    good, lists = annotations("val", [0]), tmp_path / "lists"
    write(lists, train={**good, "annotations": []}, val=good)
    with pytest.raises(UserError, match=r"train.json: image 100 .* has no annotation"):
        inaturalist_2021(touch(), lists)
    write(lists, val={"images": good["images"]})
    with pytest.raises(UserError, match=r"val.json: no list of annotations"):
        inaturalist_2021(touch(), lists)
    write(lists, val={**good, "categories": good["categories"][1:]})
    with pytest.raises(UserError, match="do not count from 0"):
        inaturalist_2021(touch(), lists)
