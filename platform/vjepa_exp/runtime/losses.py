"""What becomes of a stage whose workers are gone: a lost node is nobody's fault, a failure of its own is counted."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import ray
from ray.train import ControllerError, PreemptionError, TrainingFailedError, WorkerGroupError
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError

from vjepa_exp.runtime.hold import forget_nodes, last_nodes
from vjepa_exp.runtime.job import NodeLeaving, StageJob
from vjepa_exp.spec.errors import UserError
from vjepa_exp.track.journal import JOURNAL, read_journal

NODE_DEATH_S = 40.0
"""Ray takes so long to tell that a node is dead which no longer answers."""
MAX_IN_PLACE = 5
"""Losses without a step further: nodes that are taken sooner than a stage gets from one checkpoint to the next."""

log = logging.getLogger(__name__)


class Losses:
    """The attempts of one stage (or of stages that share a pass) that came to nothing."""

    def __init__(self, jobs: Sequence[StageJob]) -> None:
        self._jobs, self._job = jobs, jobs[0]
        self._failed: list[frozenset[str]] = []
        self._reached, self._in_place = [-1] * len(jobs), 0
        forget_nodes(self._job.folder)

    def note(self, error: TrainingFailedError) -> None:
        """An attempt has ended with an error; returns where there may be another one.

        Raises:
            UserError: of a worker; or nodes are lost again and again without a step forward.
            TrainingFailedError: the error itself, where the stage failed by itself more often than it may.
        """
        if mistake := user_error(error):
            raise mistake from None
        nodes = last_nodes(self._job.folder)
        forget_nodes(self._job.folder)
        self._count_progress()
        if was_asked_to_leave(error):
            log.warning("%s: left a node on notice", self._job.stage.id)
            return
        self._failed.append(nodes)
        allowed, deadline = self._job.execution.max_failures, time.monotonic() + NODE_DEATH_S
        while self._own_failures() > allowed:
            if not nodes or not self._job.slots.joined or time.monotonic() > deadline:
                raise error
            time.sleep(0.5)
        log.warning("%s: workers failed (%d of %d)", self._job.stage.id, self._own_failures(), allowed)

    def _own_failures(self) -> int:
        dead = {node["NodeID"] for node in ray.nodes() if not node["Alive"]}
        return sum(not nodes & dead for nodes in self._failed)

    def _count_progress(self) -> None:
        steps = [_last_step(job) for job in self._jobs]
        further = any(now > before for now, before in zip(steps, self._reached, strict=True))
        self._in_place = 0 if further else self._in_place + 1
        self._reached = [max(pair) for pair in zip(steps, self._reached, strict=True)]
        if self._in_place >= max(MAX_IN_PLACE, self._job.execution.max_failures + 1):
            raise UserError(
                f"its workers were lost {self._in_place + 1} times without a step beyond {max(self._reached)}: lower "
                "execution.checkpoint_every, or take nodes that stay"
            )


def _last_step(job: StageJob) -> int:
    return max((int(row["step"]) for row in read_journal(job.folder / JOURNAL)), default=0)


def user_error(error: TrainingFailedError) -> UserError | None:
    """What a user has to mend, where that is why an attempt ended."""
    return next((cause for cause in _causes(error) if isinstance(cause, UserError)), None)


def was_asked_to_leave(error: TrainingFailedError) -> bool:
    """Whether workers left because their node goes."""
    return isinstance(error, PreemptionError) or any(isinstance(cause, NodeLeaving) for cause in _causes(error))


def timed_out(error: TrainingFailedError) -> bool:
    """Whether an attempt never began: there was no room for its workers in time."""
    return isinstance(error, ControllerError) and isinstance(error.controller_failure, WorkerGroupStartupTimeoutError)


def _causes(error: TrainingFailedError) -> list[BaseException]:
    if not isinstance(error, WorkerGroupError):
        return []
    return [getattr(failure, "_base_exc", failure) for failure in error.worker_failures.values()]
