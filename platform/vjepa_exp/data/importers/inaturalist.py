"""iNaturalist 2021 by `train.json` and `val.json`, which hold images (id, file_name), annotations (image_id,
category_id) and categories (id, name). File names count from the folder that holds `train` and `val`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vjepa_exp.data.importers.lists import find_list, read_json
from vjepa_exp.data.listing import Listed, Listing, make_listing
from vjepa_exp.data.manifest import SPLITS, Split
from vjepa_exp.spec.errors import UserError


def inaturalist_2021(files: Path, lists: Path) -> Listing:
    """Both splits; a class is a species.

    Raises:
        UserError: a list or the folder of images is missing or cannot be understood.
    """
    if not files.is_dir():
        raise UserError(f"{files} is no folder")
    paths = {split: find_list(lists, rf"(.*[-_])?{split}\.json", f"{split}.json") for split in SPLITS}
    names = dict(_read(paths["val"])["categories"])
    if sorted(names) != list(range(len(names))):
        raise UserError(f"{paths['val']}: the ids of the categories do not count from 0")
    listed = (item for split, path in paths.items() for item in _listed(path, split, names))
    return make_listing(listed, files.resolve(), str(lists), classes=[names[i] for i in range(len(names))])


def _listed(path: Path, split: Split, names: dict[int, str]) -> Iterator[Listed]:
    whole = _read(path)
    category = dict(whole["annotations"])
    for image, name in whole["images"]:
        if category.get(image) not in names:
            raise UserError(f"{path}: image {image} ({name}) has no annotation with a known category")
        yield Listed(name, names[category[image]], split)


def _read(path: Path) -> dict[str, list[tuple[Any, Any]]]:
    whole = read_json(path, _slim)
    for name in ("images", "annotations", "categories"):
        if not isinstance(whole, dict) or not all(isinstance(pair, tuple) for pair in whole.get(name, [None])):
            raise UserError(f"{path}: no list of {name} as iNaturalist 2021 has it")
    return whole


def _slim(item: dict[str, Any]) -> Any:
    """Keep of each object what is used: with all their fields, millions of them take gigabytes."""
    if "file_name" in item and "id" in item:
        return item["id"], item["file_name"]
    if "image_id" in item and "category_id" in item:
        return item["image_id"], item["category_id"]
    if "name" in item and "id" in item:
        return item["id"], item["name"]
    return item
