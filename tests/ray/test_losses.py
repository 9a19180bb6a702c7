"""What counts as a failure of a stage, and what does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.train import ControllerError, WorkerGroupError
from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError, WorkerGroupStartupTimeoutError

from vjepa_exp.runtime import losses as losses_module
from vjepa_exp.runtime.hold import held
from vjepa_exp.runtime.job import NodeLeaving, StageJob
from vjepa_exp.runtime.losses import Losses, timed_out
from vjepa_exp.runtime.slots import Slots
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.execution import ExecutionSpec
from vjepa_exp.track.journal import JOURNAL, Journal

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]


@pytest.fixture
def job(tmp_path: Path) -> StageJob:
    stage: Any = SimpleNamespace(id="pretrain-x")
    slots = Slots("cpu", 1, 2, 1, 1, joined=True)
    return StageJob(stage, "", tmp_path, tmp_path, {}, {}, None, ExecutionSpec(max_failures=1, workers=2), slots)


def failed(*causes: Exception) -> WorkerGroupError:
    return WorkerGroupError("workers failed", dict(enumerate(causes)))


def test_failures_of_its_own_are_counted(job: StageJob) -> None:
    losses = Losses([job])
    losses.note(failed(RuntimeError("first")))
    with pytest.raises(WorkerGroupError) as raised:
        losses.note(failed(RuntimeError("second")))
    assert "second" in str(raised.value.worker_failures[0])


def test_a_node_that_lives_is_no_excuse(job: StageJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses_module, "NODE_DEATH_S", 0.2)
    losses = Losses([job])
    for _ in range(2):
        with held(job.folder, ["a node that Ray does not call dead"]):
            error = failed(RuntimeError("lost"))
        if _ == 0:
            losses.note(error)
    with pytest.raises(WorkerGroupError):
        losses.note(error)


def test_whoever_leaves_on_notice_has_not_failed_while_it_gets_further(job: StageJob) -> None:
    losses, journal = Losses([job]), Journal(job.folder / JOURNAL)
    for step in range(1, 20):
        journal.write(step, {})
        journal.sync()
        losses.note(failed(NodeLeaving("asked to leave"), RuntimeError("the other one is gone")))
    for _ in range(losses_module.MAX_IN_PLACE - 1):
        losses.note(failed(NodeLeaving("asked to leave")))
    with pytest.raises(UserError, match=r"lost 6 times without a step beyond 19: lower execution.checkpoint_every"):
        losses.note(failed(NodeLeaving("asked to leave")))
    journal.close()


def test_one_of_the_probes_that_gets_further_is_progress(job: StageJob, tmp_path: Path) -> None:
    second = replace(job, folder=tmp_path / "second")
    second.folder.mkdir()
    losses, journal = Losses([job, second]), Journal(second.folder / JOURNAL)
    for step in range(1, 20):  # the first one diverged long ago
        journal.write(step, {})
        journal.sync()
        losses.note(failed(NodeLeaving("asked to leave")))
    journal.close()


def test_what_a_user_has_to_mend_is_not_tried_again(job: StageJob) -> None:
    with pytest.raises(UserError, match="no such video"):
        Losses([job]).note(failed(RuntimeError("gone"), UserError("no such video")))


def test_a_start_without_room_in_time_is_no_attempt() -> None:
    assert timed_out(ControllerError(WorkerGroupStartupTimeoutError(2)))
    assert not timed_out(ControllerError(WorkerGroupStartupFailedError("an actor died")))
    assert not timed_out(failed(RuntimeError("gone")))
