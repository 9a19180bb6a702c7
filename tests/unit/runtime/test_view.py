"""What a person sees of a run: bars on a terminal, lines in a pipe."""

from __future__ import annotations

import time
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from vjepa_exp.graph.stage import Stage
from vjepa_exp.runtime import view as view_module
from vjepa_exp.runtime.job import StageJob
from vjepa_exp.runtime.slots import Slots
from vjepa_exp.runtime.view import View
from vjepa_exp.runtime.waiting import Waiting
from vjepa_exp.spec.execution import ExecutionSpec
from vjepa_exp.spec.stages import DataRecipe
from vjepa_exp.track.progress import PROGRESS, STARTS, Progress
from vjepa_exp.track.starts import Start, note_start


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view_module, "LIVE_S", 0.02)
    monkeypatch.setattr(view_module, "PIPED_S", 0.02)
    monkeypatch.setattr(view_module, "ASK_S", 0.05)


@pytest.fixture
def job(tmp_path: Path) -> StageJob:
    stage = Stage("data", "tiny", DataRecipe(family="tiny", digest="x"))
    return StageJob(stage, "pretrain tube", tmp_path, tmp_path, {}, {}, None, ExecutionSpec(), Slots("cpu", 1, 1, 1, 1))


def wait_for(out: StringIO, words: str) -> None:
    deadline = time.monotonic() + 60
    while words not in out.getvalue():
        assert time.monotonic() < deadline, f"{words!r} never appeared in {out.getvalue()!r}"
        time.sleep(0.01)


def run(job: StageJob, out: StringIO, terminal: bool) -> str:
    """A stage from start to end, as the driver shows it."""
    Progress("step", 99, 100).write(job.folder)  # left by a run that was killed
    with View(Console(file=out, force_terminal=terminal, width=200), 3, 5) as view:
        view.says("starting Ray")
        wait_for(out, "starting Ray")
        view.begun(job)
        wait_for(out, "starts")
        for step in (10, 20):
            Progress("step", step, 100, loss=0.5, per_s=64.0).write(job.folder)
            wait_for(out, f"step {step}/100")
        view.ended(job, "loss 0.500, 3 s")
    return out.getvalue()


def test_a_pipe_gets_lines(job: StageJob) -> None:
    lines = run(job, StringIO(), terminal=False).splitlines()
    assert lines[:3] == ["starting Ray", "pretrain tube  starts", "pretrain tube  step 10/100, loss 0.500, 64 clips/s"]
    assert lines[3].startswith("pretrain tube  step 20/100, loss 0.500, 64 clips/s, ")
    assert lines[3].endswith(" left")
    assert lines[4:] == ["pretrain tube  loss 0.500, 3 s"]


def test_a_terminal_shows_the_stage_and_the_whole_run(job: StageJob) -> None:
    text = run(job, StringIO(), terminal=True)
    for words in ("3 of 5 stages", "starting Ray", "starts, 0 s", "loss 0.500, 64 clips/s", " left"):
        assert words in text, words
    assert "99/100" not in text


def test_the_progress_file_goes_with_its_stage(job: StageJob) -> None:
    run(job, StringIO(), terminal=False)
    assert not (job.folder / PROGRESS).exists()


def test_a_restart_is_said_when_it_is_over(job: StageJob) -> None:
    note_start(job.folder, Start(0, 0, 1.0, {"ray": 4.0}))
    out = StringIO()
    with View(Console(file=out, width=200), 0, 1) as view:
        view.begun(job)
        note_start(job.folder, Start(400, 3, 2.0, {"ray": 4.0, "batch": 10.0}))
        view.ended(job, "loss 0.1")
    assert "pretrain tube  resumed at step 400 after 14 s (ray 4.0, batch 10.0, 3 steps done again)" in out.getvalue()
    assert "step 0" not in out.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_stage_that_waits_for_nodes_is_told_of_until_it_works(job: StageJob, terminal: bool) -> None:
    def ask_ray(starting: Sequence[tuple[Slots, float]]) -> Waiting | None:
        asked.append(len(starting))
        return Waiting(1, starting[0][1], f"waits for {starting[0][0].workers} worker") if starting else None

    out, asked = StringIO(), list[int]()
    with View(Console(file=out, force_terminal=terminal, width=200), 0, 1) as view:
        view.on_cluster(ask_ray)
        view.begun(job)
        wait_for(out, "waits for 1 worker")
        Progress("step", 10, 100).write(job.folder)
        while asked[-1]:
            time.sleep(0.01)
        STARTS.write(job.folder)  # its workers are lost
        while not asked[-1]:
            time.sleep(0.01)
        view.ended(job, "loss 0.1")
    assert terminal or 2 <= out.getvalue().count("waits for") <= asked.count(1)
