"""Something-Something v2 by the JSON lists of its makers.

Lists: `something-something-v2-labels.json` (name -> number in a string), `...-train.json` and `...-validation.json` (a
list of objects with id and template), or the same without the words before. Videos: `ID.webm` anywhere below the
folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vjepa_exp.data.importers.lists import FilesByName, find_list, read_json
from vjepa_exp.data.listing import Listed, Listing, make_listing
from vjepa_exp.data.manifest import Split
from vjepa_exp.spec.errors import UserError

_SPLITS: dict[Split, str] = {"train": "train", "val": "validation"}


def something_v2(files: Path, lists: Path) -> Listing:
    """Both splits; a class is a template without its brackets.

    Raises:
        UserError: a list or the folder of videos is missing or cannot be understood.
    """
    classes = _classes(find_list(lists, r"(.*[-_])?labels\.json", "something-something-v2-labels.json"))
    listed = _listed(lists, FilesByName(files), set(classes))
    return make_listing(listed, files.resolve(), str(lists), classes=classes)


def _classes(path: Path) -> list[str]:
    numbers = read_json(path)
    try:
        by_number = {int(number): name for name, number in numbers.items()}
        return [by_number[number] for number in range(len(numbers))]
    except (AttributeError, TypeError, ValueError, KeyError):
        raise UserError(f"{path} is no object of class names and their numbers from 0") from None


def _listed(lists: Path, found: FilesByName, known: set[str]) -> Iterator[Listed]:
    for split, word in _SPLITS.items():
        path = find_list(lists, rf"(.*[-_])?{word}\.json", f"something-something-v2-{word}.json")
        for entry in read_json(path):
            try:
                video, label = str(entry["id"]), entry["template"].replace("[", "").replace("]", "")
            except (TypeError, KeyError, AttributeError):
                raise UserError(f"{path}: expected objects with id and template, found {str(entry)[:80]}") from None
            if label not in known:
                raise UserError(f"{path}: video {video} is of the class '{label}', which the labels do not name")
            yield Listed(found.path(video), label, split)
