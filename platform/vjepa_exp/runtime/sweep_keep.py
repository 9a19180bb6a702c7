"""The checkpoint of a sweep: candidates of a round that have taken the same steps are one file."""

from __future__ import annotations

from vjepa_exp.evals.coverage import Coverage
from vjepa_exp.runtime.job import CHECKPOINT, NodeLeaving, StageJob
from vjepa_exp.runtime.notice import Notice
from vjepa_exp.runtime.probe_batches import probe_recipe, require_split
from vjepa_exp.runtime.steps import StepReporter
from vjepa_exp.train.checkpoint import STATE_FILE, load_checkpoint, save_checkpoint
from vjepa_exp.train.joint import JointTraining
from vjepa_exp.train.sweep import SweepState
from vjepa_exp.train.world import World


class SweepKeeper:
    """Writes what a sweep needs to go on: every so often, between rounds, before the last step of one, and on notice.

    Attributes:
        state: where the sweep goes on.
    """

    def __init__(self, job: StageJob, world: World, order: str) -> None:
        """Look for a checkpoint in the stage's folder.

        Args:
            job: the probe with its sweep.
            world: this worker among its equals.
            order: fingerprint of the order of training videos.

        Raises:
            UserError: it cannot be read, or belongs to something else.
        """
        self._job, self._world, self._order, self._notice = job, world, order, Notice(world)
        self._folder, self._recipe = job.folder / CHECKPOINT, probe_recipe(job)
        self.state = SweepState(f"checkpoint {self._folder}")
        if world.gather(world.rank == 0 and (self._folder / STATE_FILE).is_file())[0]:
            load_checkpoint(self._folder, self.state, self._recipe, order)

    def after_step(self, state: SweepState, reporter: StepReporter) -> None:
        """To be called on every worker.

        Raises:
            NodeLeaving: a node of the workers goes.
            UserError: too many training videos are unreadable: the checkpoint before that stays.
        """
        told, training = self._notice.given(), state.training
        if training is not None:
            rarely = state.step % self._job.execution.checkpoint_every
            if rarely and not told and state.step != training.last_step - 1:
                return
            self._require(training)
        reporter.sync()
        save_checkpoint(self._folder, state, self._recipe, self._order, writes=self._world.rank == 0)
        if told:
            self._world.gather(None)  # nobody leaves before the checkpoint is written
            raise NodeLeaving(f"asked to leave after step {state.step}")

    def _require(self, training: JointTraining) -> None:
        mine = set().union(*(state.unreadable for state in training.states.values()))
        unreadable = set().union(*self._world.gather(mine))
        if unreadable:
            require_split(self._job, Coverage.of(training.num_videos, unreadable), "training")
