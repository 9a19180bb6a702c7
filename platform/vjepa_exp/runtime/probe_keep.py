"""Checkpoints of probes that share a pass: a long one is not lost with its node."""

from __future__ import annotations

from collections.abc import Sequence

from vjepa_exp.runtime.job import CHECKPOINT, StageJob
from vjepa_exp.runtime.notice import NodeLeaving, Notice, heed_notices
from vjepa_exp.runtime.probe_batches import probe_recipe
from vjepa_exp.runtime.steps import StepReporter
from vjepa_exp.spec.stages import ProbeRecipe
from vjepa_exp.train.checkpoint import save_checkpoint, step_reached
from vjepa_exp.train.loop import Hook, StepInfo
from vjepa_exp.train.probe import Resume
from vjepa_exp.train.probe_step import ProbeState
from vjepa_exp.train.world import World


class ProbeKeeper:
    """Writes what probes need to go on: every so often, on notice, and before the last step, which the test follows.

    Attributes:
        steps: that each of them has done.
        first: the fewest of them: there the pass goes on.
        resume: where the probes go on.
    """

    def __init__(self, jobs: Sequence[StageJob], world: World, order: str) -> None:
        """Look for checkpoints in the stages' folders.

        Args:
            jobs: the probes.
            world: this worker among its equals.
            order: fingerprint of the order of training videos.

        Raises:
            UserError: a checkpoint cannot be read.
        """
        heed_notices()
        self._world, self._order, self._notice = world, order, Notice(world)
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
        """
        folder, recipe, often = job.folder / CHECKPOINT, probe_recipe(job), job.execution.checkpoint_every

        def keep(info: StepInfo[ProbeState]) -> None:
            if info.step == info.last_step:  # tested
                return
            if self._told_at and info.step > self._told_at:
                self._world.gather(None)  # nobody leaves before the checkpoints are written
                raise NodeLeaving(f"asked to leave after step {self._told_at}")
            if self._told(info.step) or info.step % often == 0 or info.step == info.last_step - 1:
                reporter.sync()
                save_checkpoint(folder, info.state, recipe, self._order, writes=self._world.rank == 0)

        return keep

    def _told(self, step: int) -> bool:
        """Whether a node goes; asked once a step, whatever the number of probes."""
        if step > self._asked:
            self._asked = step
            if self._notice.given():
                self._told_at = step
        return self._told_at == step
