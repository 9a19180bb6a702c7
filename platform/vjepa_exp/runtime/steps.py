"""What a training worker says while it works: metrics into the journal, its place into the progress file."""

from __future__ import annotations

from typing import Any

from vjepa_exp.runtime.job import StageJob, Throttle
from vjepa_exp.track.journal import JOURNAL, Journal
from vjepa_exp.track.progress import Progress
from vjepa_exp.train.hooks import every, log_metrics
from vjepa_exp.train.loop import Hook, StepInfo
from vjepa_exp.train.world import World


class StepReporter:
    """The hooks of one stage that write; only rank 0 writes.

    Args:
        job: the stage.
        world: this worker among its equals.
        step: the step that training continues from; the journal is cut there.
    """

    def __init__(self, job: StageJob, world: World, step: int = 0) -> None:
        self._job, self._due = job, Throttle()
        self._journal = Journal(job.folder / JOURNAL, step) if world.rank == 0 else None
        self._latest: dict[str, float] = {}
        self.hooks: list[Hook[Any]] = [every(job.execution.log_every, log_metrics(world, self._log)), self._show]

    def _log(self, step: int, metrics: dict[str, float]) -> None:
        if self._journal is not None:
            self._journal.write(step, metrics)
        self._latest = metrics

    def _show(self, info: StepInfo[Any]) -> None:
        if self._journal is not None and self._due():
            loss, rate = self._latest.get("loss"), self._latest.get("clips_per_s")
            Progress("step", info.step, info.last_step, loss, rate).write(self._job.folder)

    def sync(self) -> None:
        """Have the journal on disk: before a checkpoint, whose steps are never logged again."""
        if self._journal is not None:
            self._journal.sync()

    def close(self) -> None:
        """Close the journal."""
        if self._journal is not None:
            self._journal.close()
