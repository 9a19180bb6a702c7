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
    """What a pretraining has skipped so far: up to its checkpoint over restarts, and since then.

    What was found after the checkpoint is tried again after a restart: a disk that was not there may be back.

    Args:
        folder: of the stage; its list of skipped videos is that of the checkpoint from here on.
        checkpoint: folder of the checkpoint.
        world: this worker among its equals.
        total: videos of its data sets.
        indexed: those that were unreadable when they were indexed.
        max_unreadable: share of the videos that may be unreadable.

    Raises:
        UserError: too many are known already.
    """

    def __init__(
        self,
        folder: Path,
        checkpoint: Path,
        world: World,
        total: int,
        indexed: Iterable[Unreadable],
        max_unreadable: float,
    ) -> None:
        self._folder, self._checkpoint, self._world = folder, checkpoint, world
        self._total, self._max = total, max_unreadable
        self._known = {*indexed, *read_quarantine(checkpoint)}
        if world.rank == 0:
            (folder / QUARANTINE).unlink(missing_ok=True)
            write_quarantine(folder, self._known)
        world.gather(None)  # nobody lists what stops it before the list of the last attempt is gone
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
        """Write down what all workers have skipped, before a checkpoint; call it on every worker.

        Raises:
            UserError: together they could not read too many videos.
        """
        self._known = set().union(*self._world.gather(self._known))
        self._check()
        if self._world.rank == 0:
            for folder in (self._folder, self._checkpoint):
                write_quarantine(folder, self.coverage.unreadable)
        return self.coverage

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
    """List videos in a folder, made if need be; returns the names of files written, none where nothing is listed."""
    rows = [{name: getattr(one, name) for name in COLUMNS} for one in sorted(set(unreadable))]
    if not rows:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f".{QUARANTINE}.{os.getpid()}.part"  # each worker lists what it knows before it stops
    with aside.open("wb") as file:
        pq.write_table(pa.Table.from_pylist(rows), file)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(folder / QUARANTINE)
    return [QUARANTINE]


def read_quarantine(folder: Path) -> list[Unreadable]:
    """The videos that a folder lists."""
    file = folder / QUARANTINE
    return [Unreadable(**row) for row in pq.read_table(file).to_pylist()] if file.is_file() else []
