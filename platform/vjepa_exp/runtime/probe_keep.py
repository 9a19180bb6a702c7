"""Checkpoints of probes that share a pass: a long one is not lost with its node."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vjepa_exp.evals.coverage import Coverage
from vjepa_exp.runtime.job import CHECKPOINT, NodeLeaving, StageJob
from vjepa_exp.runtime.notice import Notice
from vjepa_exp.runtime.probe_batches import probe_recipe, require_split
from vjepa_exp.runtime.steps import StepReporter
from vjepa_exp.spec.stages import ProbeRecipe
from vjepa_exp.train.checkpoint import save_checkpoint, step_reached
from vjepa_exp.train.hooks import DivergedError
from vjepa_exp.train.loop import Hook, StepInfo
from vjepa_exp.train.probe import Resume
from vjepa_exp.train.probe_step import ProbeState
from vjepa_exp.train.world import World


class ProbeKeeper:
    """Writes what probes need to go on: every so often, on notice if this process heeds them, and before the last step.

    Attributes:
        steps: that each of them has done.
        first: the fewest of them: there the pass goes on.
        resume: where the probes go on.
    """

    def __init__(self, jobs: Sequence[StageJob], world: World, order: str, num_videos: int) -> None:
        """Look for checkpoints in the stages' folders.

        Args:
            jobs: the probes.
            world: this worker among its equals.
            order: fingerprint of the order of training videos.
            num_videos: how many there are.

        Raises:
            UserError: a checkpoint cannot be read.
        """
        self._world, self._order, self._num_videos, self._notice = world, order, num_videos, Notice(world)
        self._asked, self._told_at = 0, 0
        folders = [job.folder / CHECKPOINT for job in jobs]
        mine = [step_reached(folder, ProbeRecipe) for folder in folders] if world.rank == 0 else []
        self.steps = world.gather(mine)[0]
        self.first = min(self.steps)
        begun = [folder if step else None for folder, step in zip(folders, self.steps, strict=True)]
        self.resume = Resume(begun, order)

    def hook(self, job: StageJob, reporter: StepReporter) -> Hook[ProbeState]:
        """What to call after every step of a probe.

        Raises:
            NodeLeaving: (when called) the step before this one was the last one to be done here.
            UserError: (when called) too many training videos are unreadable: the checkpoint before that stays.
        """
        folder, recipe, often = job.folder / CHECKPOINT, probe_recipe(job), job.execution.checkpoint_every

        def keep(info: StepInfo[ProbeState]) -> None:
            if info.step == info.last_step:  # tested
                return
            if self._told_at and info.step > self._told_at:
                self._world.gather(None)  # nobody leaves before the checkpoints are written
                raise NodeLeaving(f"asked to leave after step {self._told_at}")
            if self._told(info.step) or info.step % often == 0 or info.step == info.last_step - 1:
                self._require(job, info.state)
                reporter.sync()
                save_checkpoint(folder, info.state, recipe, self._order, writes=self._world.rank == 0)

        return keep

    def _require(self, job: StageJob, state: ProbeState) -> None:
        unreadable = set().union(*self._world.gather(state.unreadable))
        if unreadable:
            require_split(job, Coverage.of(self._num_videos, unreadable), "training")

    def _told(self, step: int) -> bool:
        """Whether a node goes; asked once a step, whatever the number of probes."""
        if step > self._asked:
            self._asked = step
            if self._notice.given():
                self._told_at = step
        return self._told_at == step


def diverged_before(jobs: Sequence[StageJob], world: World) -> list[str]:
    """Why each probe ended in an earlier attempt of this run, '' where it did not: it would end there again."""
    files = [_mark(job) for job in jobs] if world.rank == 0 else []
    mine = [file.read_text(encoding="utf-8") if file.is_file() else "" for file in files]
    return world.gather(mine)[0]


def marking(job: StageJob, world: World, hook: Hook[ProbeState]) -> Hook[ProbeState]:
    """The hook; where a probe diverges the next attempt of this run is told, and leaves it out."""

    def call(info: StepInfo[ProbeState]) -> None:
        try:
            hook(info)
        except DivergedError as error:
            if world.rank == 0:
                _mark(job).parent.mkdir(parents=True, exist_ok=True)
                _mark(job).write_text(str(error), encoding="utf-8")
            raise

    return call


def _mark(job: StageJob) -> Path:
    return job.scratch / f"{job.stage.id}.diverged"
