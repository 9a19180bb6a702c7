"""Videos that could not be read, counted and listed with their reasons; too many of them stop the stage."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from vjepa_exp.evals.coverage import Coverage, Unreadable
from vjepa_exp.runtime.stream import Batch
from vjepa_exp.spec.errors import UserError
from vjepa_exp.train.world import World

QUARANTINE = "quarantine.parquet"
COLUMNS = ("dataset", "path", "reason")


class Quarantine:
    """What a pretraining has skipped so far, over restarts.

    Args:
        folder: of the stage.
        world: this worker among its equals.
        total: videos of its data sets.
        indexed: those that were unreadable when they were indexed.
        max_unreadable: share of the videos that may be unreadable.

    Raises:
        UserError: too many are known already.
    """

    def __init__(
        self, folder: Path, world: World, total: int, indexed: Iterable[Unreadable], max_unreadable: float
    ) -> None:
        self._folder, self._world, self._total, self._max = folder, world, total, max_unreadable
        self._known = {*indexed, *read_quarantine(folder)}
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
            found = {Unreadable(**one) for text in batch["skipped"] if text for one in json.loads(text)}
            if found - self._known:
                self._known |= found
                self._check()
            yield batch

    def keep(self) -> Coverage:
        """Write down what all workers have skipped; call it on every worker."""
        parts = self._world.gather(self.coverage.unreadable)
        everywhere = Coverage.of(self._total, [one for part in parts for one in part])
        if self._world.rank == 0:
            write_quarantine(self._folder, everywhere.unreadable)
        return everywhere

    def _check(self) -> None:
        if self._known:
            require(self.coverage, self._max, "pretraining", self._folder)


def require(coverage: Coverage, max_unreadable: float, what: str, folder: Path) -> None:
    """Refuse to go on with too little, with all that is missing listed in the stage's folder.

    Raises:
        UserError: too many videos, or all of them, cannot be read.
    """
    try:
        coverage.require(max_unreadable, what)
    except UserError as error:
        if not write_quarantine(folder, coverage.unreadable):
            raise
        raise UserError(f"{error}; all are listed in {folder / QUARANTINE}") from None


def write_quarantine(folder: Path, unreadable: Iterable[Unreadable]) -> list[str]:
    """List videos in a stage's folder; returns the names of the files written, none where there is nothing to list."""
    rows = [{name: getattr(one, name) for name in COLUMNS} for one in sorted(set(unreadable))]
    if not rows:
        return []
    aside = folder / f".{QUARANTINE}.{os.getpid()}.part"  # each worker lists what it knows before it stops
    with aside.open("wb") as file:
        pq.write_table(pa.Table.from_pylist(rows), file)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(folder / QUARANTINE)
    return [QUARANTINE]


def read_quarantine(folder: Path) -> list[Unreadable]:
    """The videos that a stage's folder lists."""
    file = folder / QUARANTINE
    return [Unreadable(**row) for row in pq.read_table(file).to_pylist()] if file.is_file() else []
