"""The record of what a run trained on: by step, whatever the workers, and cut where training goes on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vjepa_exp.runtime.rows import Rows
from vjepa_exp.runtime.samples import SAMPLES, SampleLog, digest
from vjepa_exp.runtime.stream import Batch
from vjepa_exp.train.world import World


@dataclass(frozen=True)
class Beside(World):
    """A worker among two, where `gather` gives what the other one had noted."""

    other: tuple[np.ndarray, ...] = ()

    def gather(self, value: object) -> list[object]:
        """This worker's value and the other's."""
        return [value, *self.other]


def batch(rows: Rows, step: int, sample_of: int = 7) -> Batch:
    position = np.asarray(rows.positions(step), np.int64)
    return {"position": position, "sample": position * sample_of % 11}


def logged(folder: Path, first: int, last: int, world: World | None = None, **changes: int) -> list[int]:
    """What the file holds after steps `first` + 1 to `last`."""
    log = SampleLog(folder, world or World(), first)
    rows = Rows(6, 100)
    for _ in log.watch(batch(rows, step, **changes) for step in range(first, last)):
        pass
    log.keep(last)
    return np.fromfile(folder / SAMPLES, "<u8").tolist()


def test_what_comes_after_the_checkpoint_is_noted_anew(tmp_path: Path) -> None:
    whole = logged(tmp_path, 0, 9)
    assert len(set(whole)) == 9
    assert logged(tmp_path, 4, 6) == whole[:6]
    assert logged(tmp_path, 6, 9) == whole


def test_another_sample_at_a_position_or_another_order_is_seen(tmp_path: Path) -> None:
    whole = logged(tmp_path, 0, 3)
    assert all(mine != theirs for mine, theirs in zip(logged(tmp_path, 0, 3, sample_of=8), whole, strict=True))
    one = batch(Rows(6, 100), 0)
    swapped = {**one, "sample": one["sample"][::-1]}
    assert digest(swapped) != digest(one)


def test_only_steps_that_were_trained_are_kept(tmp_path: Path) -> None:
    log, rows = SampleLog(tmp_path, World(), 0), Rows(6, 100)
    ahead = log.watch(batch(rows, step) for step in range(5))
    for _ in range(4):
        next(ahead)
    log.keep(3)
    assert len(np.fromfile(tmp_path / SAMPLES, "<u8")) == 3
    next(ahead)
    log.keep(5)
    assert np.fromfile(tmp_path / SAMPLES, "<u8").tolist() == logged(tmp_path, 0, 5)


def test_two_workers_note_what_one_does(tmp_path: Path) -> None:
    alone = logged(tmp_path, 0, 4)
    parts = [
        np.asarray([digest(batch(Rows(6, 100, rank=rank, world=2), step)) for step in range(4)], "<u8")
        for rank in range(2)
    ]
    log = SampleLog(tmp_path, Beside(size=2, other=(parts[1],)), 0)
    for _ in log.watch(batch(Rows(6, 100, rank=0, world=2), step) for step in range(4)):
        pass
    log.keep(4)
    assert np.fromfile(tmp_path / SAMPLES, "<u8").tolist() == alone


def test_steps_of_an_older_version_stay_unknown(tmp_path: Path) -> None:
    assert logged(tmp_path, 2, 4)[:2] == [0, 0]
