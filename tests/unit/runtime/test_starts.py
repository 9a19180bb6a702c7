"""What a start took is noted once, when its first step is done."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vjepa_exp.runtime.job import StageJob
from vjepa_exp.runtime.slots import Slots
from vjepa_exp.runtime.starts import StartClock
from vjepa_exp.spec.execution import ExecutionSpec
from vjepa_exp.track.journal import JOURNAL, Journal
from vjepa_exp.track.starts import STARTS, Start, note_start, read_starts
from vjepa_exp.train.world import World

SLOTS = Slots("cpu", concurrent=1, workers=1, decode_workers=1, threads=1)
DONE: Any = SimpleNamespace()


def job(folder: Path, **changes: Any) -> StageJob:
    stage: Any = None
    return StageJob(stage, "", folder, folder, {}, {}, None, ExecutionSpec(), SLOTS, **changes)


def slow(seconds: float, count: int) -> Iterator[Any]:
    for _ in range(count):
        time.sleep(seconds)
        yield {}


def train(clock: StartClock, restoring: float = 0.0) -> None:
    time.sleep(restoring)
    for _ in clock.watch(slow(0.1, 3)):
        time.sleep(0.05)
        clock.done(DONE)


def test_each_phase_has_its_seconds(tmp_path: Path) -> None:
    now = time.time()
    train(StartClock(job(tmp_path, before={"ray": 5.0}, ready=now - 2), World(), 400, entered=now), restoring=0.2)
    (start,) = read_starts(tmp_path)
    assert (start.step, start.repeated) == (400, 0)
    assert start.seconds == {
        "ray": 5.0,
        "workers": pytest.approx(2.0, abs=0.02),
        "restore": pytest.approx(0.2, abs=0.1),
        "batch": pytest.approx(0.1, abs=0.09),
        "step": pytest.approx(0.05, abs=0.049),
    }
    assert start.total == pytest.approx(start.time - (now - 2) + 5.0, abs=0.02)


def test_steps_that_are_done_again_are_counted_and_only_one_worker_writes(tmp_path: Path) -> None:
    journal = Journal(tmp_path / JOURNAL)
    for step in range(1, 48):
        journal.write(step, {})
    journal.close()
    for rank in range(2):
        train(StartClock(job(tmp_path), World(rank, 2), 40, entered=time.time()))
    (start,) = read_starts(tmp_path)
    assert start.repeated == 7


def test_what_a_loss_of_workers_costs_counts_from_their_last_checkpoint(tmp_path: Path) -> None:
    now = time.time()
    train(StartClock(job(tmp_path, ready=now - 2, lost_since=now - 30), World(1, 2), 40, entered=now))
    train(StartClock(job(tmp_path, ready=now - 2, lost_since=now - 30), World(0, 2), 40, entered=now))
    (start,) = read_starts(tmp_path)
    assert start.lost == pytest.approx(start.time - (now - 30), abs=0.01)
    assert start.workers == 2
    assert f"; {start.lost:.0f} s lost, 2 workers" in str(start)


def test_a_line_that_met_a_full_disk_costs_itself_alone(tmp_path: Path) -> None:
    start = Start(3, 0, 1.0, {"step": 0.5})
    note_start(tmp_path, start)
    with (tmp_path / STARTS).open("a") as file:
        file.write('{"step": 7, "repe')
    assert read_starts(tmp_path) == [start]
    note_start(tmp_path, start)
    assert read_starts(tmp_path) == [start, start]
