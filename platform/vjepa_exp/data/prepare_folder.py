"""Whose folder it is that a prepared set goes to: nothing of somebody else, and no original, is written over."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from vjepa_exp.data.places import places
from vjepa_exp.spec.errors import UserError

NOTES = "prepare.jsonl"
PARTS = ".parts"
OWNER = "prepare.owner.json"
"""In the folder of a prepared set: what was found about each file, files that are not ready, and whose it is."""


@dataclass(frozen=True)
class Owner:
    """A prepared set, as its folder knows it.

    Attributes:
        name: of the set.
        source: name of the data set that it is made from.
        manifest: where its manifest will be; told from the folder, so that both may move together.
    """

    name: str
    source: str
    manifest: Path

    def to_json(self, folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
        """What is written into the folder."""
        manifest = os.path.relpath(self.manifest.resolve(), folder)
        return {"name": self.name, "source": self.source, "manifest": manifest, "settings": dict(settings)}


def claim(folder: Path, owner: Owner, settings: Mapping[str, Any], root: Path, names: Mapping[str, str]) -> None:
    """Make a folder that of a prepared set, or make sure that it is.

    The settings of a set may change as long as it has no manifest.

    Args:
        folder: resolved.
        owner: whose it is to be.
        settings: how its files are made.
        root: of the source.
        names: path in the source's manifest -> path of the prepared file below the folder.

    Raises:
        UserError: a prepared file would take the place of an original, or of a file that is not of this set; or the
            folder cannot be written.
    """
    _require_no_original(folder, root, names)
    mine, there = owner.to_json(folder, settings), _owner(folder)
    if there == mine:
        return
    if there is None:
        _require_free(folder, names.values())
    elif {**there, "settings": None} != {**mine, "settings": None} or owner.manifest.is_file():
        raise UserError(
            f"{folder} is the folder of the set '{there['name']}', prepared from '{there['source']}' with "
            f"{there['settings']}, whose manifest is {os.path.normpath(folder / there['manifest'])}; "
            "choose another folder with --folder"
        )
    _write(folder, mine)


def _require_no_original(folder: Path, root: Path, names: Mapping[str, str]) -> None:
    if _folders(root, names).isdisjoint(_folders(folder, names.values())):
        return  # which is soon known of millions of files, too
    originals = set(places(str(root / path) for path in names))
    for path, place in zip(names, places(f"{folder}/{name}" for name in names.values()), strict=True):
        if place in originals:
            raise UserError(
                f"{path} prepared in {folder} would be written over the original {place}: choose another folder with "
                "--folder"
            )


def _folders(root: Path, paths: Iterable[str]) -> set[str]:
    """Where files lie, links resolved."""
    return {os.path.realpath(root / below) for below in set(map(os.path.dirname, paths))}


def _require_free(folder: Path, names: Iterable[str]) -> None:
    """Refuse a folder that nobody owns where a file lies that would be written over."""

    @cache
    def inside(below: str) -> frozenset[str]:
        try:
            return frozenset(os.listdir(folder / below))  # noqa: PTH208 (names alone)
        except (FileNotFoundError, NotADirectoryError):
            return frozenset()

    if not folder.exists():
        return
    for name in chain((NOTES, PARTS), names):
        below, last = os.path.split(name)
        if last in inside(below):
            raise UserError(
                f"{folder} holds {name} already, and nothing says that it is of this set: choose another folder with "
                "--folder"
            )


def _owner(folder: Path) -> dict[str, Any] | None:
    """Whose folder it is, None if it is nobody's."""
    try:
        return dict(json.loads((folder / OWNER).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / OWNER}, which says whose folder this is, cannot be read: {error}") from None


def _write(folder: Path, owner: dict[str, Any]) -> None:
    aside = folder / f"{OWNER}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with aside.open("w", encoding="utf-8") as file:
            json.dump(owner, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(folder / OWNER)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}") from None
