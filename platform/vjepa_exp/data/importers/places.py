"""Places205 by `train_places205.csv` and `val_places205.csv`: lines `path number` with paths such as
`a/abbey/gsun_1.jpg`, which count from the folder of the images (`data/vision/torralba/deeplearning/images256`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from vjepa_exp.data.importers.lists import find_list
from vjepa_exp.data.listing import Listed, Listing, make_listing, reference_list
from vjepa_exp.data.manifest import SPLITS
from vjepa_exp.spec.errors import UserError


def places205(files: Path, lists: Path) -> Listing:
    """Both splits; a class has the number of the lists and the name of its folder.

    Raises:
        UserError: a list or the folder of images is missing or cannot be understood.
    """
    if not files.is_dir():
        raise UserError(f"{files} is no folder")
    names: dict[int, str] = {}
    for item in _listed(lists):
        name = _class_name(item.path)
        if names.setdefault(int(item.label), name) != name:
            raise UserError(f"{lists}: class {item.label} is '{names[int(item.label)]}' and '{name}' ({item.path})")
    classes = [names.get(number, str(number)) for number in range(max(names, default=-1) + 1)]
    named = (item._replace(label=names[int(item.label)]) for item in _listed(lists))
    return make_listing(named, files.resolve(), str(lists), classes=classes)


def _listed(lists: Path) -> Iterator[Listed]:
    for split in SPLITS:
        path = find_list(lists, rf"({split}_places205|places205_{split})\.(csv|txt)", f"{split}_places205.csv")
        yield from reference_list(path, split)


def _class_name(path: str) -> str:
    """'apartment_building/outdoor' of a/apartment_building/outdoor/gsun_1.jpg."""
    folders = PurePosixPath(path).parts[:-1]
    return "/".join(folders[1:] if len(folders) > 1 and len(folders[0]) == 1 else folders)
