"""What the importers share: finding a list, reading it, finding the file that an id names."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from vjepa_exp.data.listing import read_lines, walk
from vjepa_exp.data.probe import IMAGE_SUFFIXES
from vjepa_exp.spec.errors import UserError


def find_list(folder: Path, pattern: str, like: str) -> Path:
    """The one file of a folder whose name matches.

    Args:
        folder: where the lists of a data set lie.
        pattern: a regular expression for the whole name, in any case.
        like: the name as the data set's makers spell it.

    Raises:
        UserError: there is none, or more than one.
    """
    found = find_lists(folder, pattern)
    if not found:
        raise UserError(f"{folder} holds no {like}; name the folder of the lists with --lists")
    if len(found) > 1:
        raise UserError(f"{folder} holds more than one {like}: {', '.join(path.name for path in found)}")
    return found[0]


def find_lists(folder: Path, pattern: str) -> list[Path]:
    """The files of a folder whose names match, in order.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder")
    return sorted(p for p in folder.iterdir() if p.is_file() and re.fullmatch(pattern, p.name, re.IGNORECASE))


def table_rows(path: Path, *columns: str) -> Iterator[tuple[str, ...]]:
    """The named columns of a CSV file with a header.

    Raises:
        UserError: the file cannot be read, or lacks a column or a value.
    """
    reader = csv.DictReader(read_lines(path))
    for name in columns:
        if name not in (reader.fieldnames or ()):
            raise UserError(f"{path}: no column '{name}'; its first line is {','.join(reader.fieldnames or ())!r}")
    for row in reader:
        for name in columns:
            if not row[name]:
                raise UserError(f"{path}:{reader.line_num}: no {name}")
        yield tuple(row[name] for name in columns)


def read_json(path: Path, object_hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """A JSON file.

    Raises:
        UserError: it cannot be read, or is no JSON.
    """
    try:
        with path.open(encoding="utf-8") as file:
            return json.load(file, object_hook=object_hook)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {error}") from None


class FilesByName:
    """The videos anywhere below a folder, by their names without the suffix; thumbnails beside them are none."""

    def __init__(self, folder: Path) -> None:
        """Look through the folder.

        Raises:
            UserError: there is no such folder.
        """
        if not folder.is_dir():
            raise UserError(f"{folder} is no folder")
        self._paths: dict[str, str] = {}
        for name in walk(folder):
            path = PurePosixPath(name)
            if path.suffix.lower() not in IMAGE_SUFFIXES:
                self._paths.setdefault(path.stem, name)

    def path(self, *names: str) -> str:
        """Where the file with the first of these names that there is lies; else where one would look for the first."""
        return next((self._paths[name] for name in names if name in self._paths), f"{names[0]}.mp4")
