"""Videos that could not be read, counted and listed with their reasons; too many of them stop the stage."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from vjepa_exp.evals.coverage import Coverage, Unreadable
from vjepa_exp.runtime.stream import Batch

QUARANTINE = "quarantine.parquet"


class Quarantine:
    """What a pretraining has skipped so far, over restarts.

    Args:
        folder: of the stage.
        total: videos of its data sets.
        indexed: path and reason of those that were unreadable when they were indexed.
        max_unreadable: share of the videos that may be unreadable.

    Raises:
        UserError: too many are known already.
    """

    def __init__(self, folder: Path, total: int, indexed: Iterable[tuple[str, str]], max_unreadable: float) -> None:
        self._total, self._max = total, max_unreadable
        self._known = {Unreadable(*one) for one in indexed} | set(read_quarantine(folder))
        self._check()

    @property
    def coverage(self) -> Coverage:
        """Videos read and not read."""
        return Coverage.of(self._total, self._known)

    def watch(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches themselves, while what they report as skipped is noted.

        Raises:
            UserError: too many videos are unreadable.
        """
        for batch in batches:
            found = {Unreadable(*one) for text in batch["skipped"] if text for one in json.loads(text)}
            if found - self._known:
                self._known |= found
                self._check()
            yield batch

    def _check(self) -> None:
        if self._known:
            self.coverage.require(self._max, "pretraining")


def write_quarantine(folder: Path, unreadable: Iterable[Unreadable]) -> list[str]:
    """List videos in a stage's folder; returns the names of the files written, none where there is nothing to list."""
    rows = [{"path": one.path, "reason": one.reason} for one in sorted(set(unreadable))]
    if not rows:
        return []
    aside = folder / f".{QUARANTINE}.part"
    pq.write_table(pa.Table.from_pylist(rows), aside)
    aside.replace(folder / QUARANTINE)
    return [QUARANTINE]


def read_quarantine(folder: Path) -> list[Unreadable]:
    """The videos that a stage's folder lists."""
    file = folder / QUARANTINE
    return [Unreadable(**row) for row in pq.read_table(file).to_pylist()] if file.is_file() else []
