"""Removal lists: training videos that another data set holds too, for a mixture to leave out.

A list is a CSV below a few lines that say for which version of which set it was made: sorted, a video a line, so that
two of them can be compared by eye or by `diff`.
"""

from __future__ import annotations

import csv
import hashlib
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

from vjepa_exp.spec.errors import Mark, Problem, SpecError, UserError

_FORMAT = "# vjepa-exp removal list 1"
_SET, _AGAINST, _BY = "# from: ", "# held by: ", "# made by: "
SAME_PICTURES = 0.1
"""Distance below which videos count as copies: benchmarks/results/leaks_202611.md has the figures."""
COLUMNS = ("path", "kind", "distance", "twin")


class ListedSet(NamedTuple):
    """One split of a data set as it was when a list was made."""

    name: str
    split: Literal["train", "val"]
    digest: str
    """SHA-256 of its manifest file."""


class Removal(NamedTuple):
    """One video of a list. Only its path counts; the rest says why it is there."""

    path: str
    """As in the manifest."""
    kind: str = "by hand"
    """`exact` the same bytes, `similar` the same pictures."""
    distance: float = 0.0
    twin: str = ""
    """The video that it is alike, as SET:PATH."""


@dataclass(frozen=True)
class RemovalList:
    """What a mixture leaves out of one data set.

    Attributes:
        source: the set that it was made for.
        against: the sets that hold the videos too.
        removals: the videos, sorted by path, none twice.
        file: where it was read, or is to be written.
        lines: 1-based line of each removal in that file.
    """

    source: ListedSet
    against: tuple[ListedSet, ...]
    removals: tuple[Removal, ...]
    file: Path
    lines: tuple[int, ...] = ()

    @property
    def digest(self) -> str:
        """Identity of what is left out of what, wherever the list lies and whatever it says beside the paths."""
        paths = "\n".join([self.source.digest, *(removal.path for removal in self.removals)])
        return f"sha256:{hashlib.sha256(paths.encode()).hexdigest()}"

    def problem(self, message: str, number: int | None = None) -> SpecError:
        """An error that names the file and the line of the set, or of a removal."""
        line = 2 if number is None else self.lines[number]
        return SpecError([Problem(Mark(str(self.file), line), "", message)])

    def require_version(self, name: str, digest: str) -> None:
        """Make sure that the list was made for a data set as it is now.

        Args:
            name: of the data set.
            digest: SHA-256 of its manifest file.

        Raises:
            SpecError: it was made for another version of it, for its val split, or for another data set.
        """
        made_for, split, before = self.source
        if split != "train":
            raise self.problem(f"is of the {split} split of data set '{made_for}'; a mixture shows train splits")
        if digest != before:
            what = f"another version of data set '{name}'" if name == made_for else f"'{made_for}' and not for '{name}'"
            versions = f"manifest {before[:12]}, here {digest[:12]}"
            again = f"{self._command(name)} --out {shlex.quote(str(self.file))}"
            raise self.problem(f"was made for {what} ({versions}). Make it again: {again}")

    def _command(self, name: str) -> str:
        return shlex.join(["vjepa-exp", "data", "leaks", name, *(other.name for other in self.against)])

    def write(self) -> None:
        """Write the list: all of it or nothing.

        Raises:
            UserError: the file cannot be written.
        """
        aside = self.file.with_name(self.file.name + ".part")
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with aside.open("w", encoding="utf-8", newline="") as file:
                heads = [(_SET, self.source), *((_AGAINST, other) for other in self.against)]
                file.writelines([f"{_FORMAT}\n", *(f"{key}{' '.join(value)}\n" for key, value in heads)])
                file.write(f"{_BY}{self._command(self.source.name)}\n")
                rows = csv.writer(file, lineterminator="\n")
                rows.writerow(COLUMNS)
                rows.writerows((*r[:2], f"{r.distance:.4g}", r.twin) for r in self.removals)
            aside.replace(self.file)
        except OSError as error:
            raise UserError(f"removal list {self.file} cannot be written: {error.strerror}") from None


def read_removals(path: Path) -> RemovalList:
    """Read a list.

    Raises:
        SpecError: it cannot be read, or a line of it cannot be understood.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return _read(path, file)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a UTF-8 text file"
        raise SpecError([Problem(Mark(str(path)), "", f"the removal list cannot be read: {reason}")]) from None


def _read(path: Path, lines: Iterator[str]) -> RemovalList:
    sets: dict[str, list[ListedSet]] = {_SET: [], _AGAINST: []}
    if next(lines, "").strip() != _FORMAT:
        raise _wrong(path, 1, f"is no removal list: its first line is not '{_FORMAT}'")
    number, line = 1, ""
    for number, line in enumerate(lines, 2):
        if not line.startswith("#"):
            break
        for key in sets:
            if line.startswith(key):
                sets[key].append(_set(path, number, line.removeprefix(key)))
    if len(sets[_SET]) != 1:
        raise _wrong(path, 2, f"needs one line '{_SET}NAME SPLIT DIGEST'")
    if line.strip().split(",")[:1] != ["path"]:
        raise _wrong(path, number, f"the columns {','.join(COLUMNS)} are missing")
    rows = csv.DictReader(chain([line], lines), restval="")
    found = _removals(path, rows, number - 1)
    ordered = sorted(found.values())
    removals, places = tuple(removal for removal, _ in ordered), tuple(place for _, place in ordered)
    return RemovalList(sets[_SET][0], tuple(sets[_AGAINST]), removals, path, places)


def _removals(path: Path, rows: csv.DictReader[str], before: int) -> dict[str, tuple[Removal, int]]:
    found: dict[str, tuple[Removal, int]] = {}
    for row in rows:
        line = before + rows.line_num
        if not row["path"]:
            raise _wrong(path, line, "has no path")
        try:
            distance = float(row.get("distance") or 0)
        except ValueError:
            raise _wrong(path, line, f"{row['distance']!r} is no distance") from None
        removal = Removal(row["path"], row.get("kind") or "by hand", distance, row.get("twin") or "")
        if removal.path in found:
            raise _wrong(path, line, f"{removal.path} stands on line {found[removal.path][1]} too")
        found[removal.path] = removal, line
    return found


def _set(path: Path, line: int, text: str) -> ListedSet:
    match text.rsplit(maxsplit=2):
        case [name, "train" | "val" as split, digest]:
            return ListedSet(name, split, digest)
    raise _wrong(path, line, "must say NAME SPLIT DIGEST")


def _wrong(path: Path, line: int, message: str) -> SpecError:
    return SpecError([Problem(Mark(str(path), line), "", message)])
