"""A pretraining stage inside a Ray Train worker: stream, resume, train, leave a checkpoint."""

from __future__ import annotations

from contextlib import closing

from vjepa_exp.data.source import PretrainSource
from vjepa_exp.evals.coverage import Coverage, Unreadable
from vjepa_exp.runtime.job import CHECKPOINT, NodeLeaving, Outcome, StageJob
from vjepa_exp.runtime.notice import Notice, heed_notices
from vjepa_exp.runtime.quarantine import QUARANTINE, Quarantine
from vjepa_exp.runtime.rows import Rows
from vjepa_exp.runtime.samples import SAMPLES, SampleLog
from vjepa_exp.runtime.starts import StartClock
from vjepa_exp.runtime.steps import StepReporter
from vjepa_exp.runtime.stream import stream
from vjepa_exp.runtime.training_data import training_videos
from vjepa_exp.spec.stages import PretrainRecipe
from vjepa_exp.track.journal import JOURNAL, read_journal
from vjepa_exp.track.starts import STARTS
from vjepa_exp.train.checkpoint import STATE_FILE, save_checkpoint, step_reached
from vjepa_exp.train.hooks import every
from vjepa_exp.train.loop import StepInfo
from vjepa_exp.train.pretrain import pretrain
from vjepa_exp.train.pretrain_step import PretrainState
from vjepa_exp.train.world import World


def run_pretraining(job: StageJob, world: World, entered: float) -> Outcome:
    """Train to the last step, from the checkpoint in the stage's folder where there is one.

    Raises:
        UserError: data or checkpoint do not fit, too many videos are unreadable, or training diverged.
        NodeLeaving: a node of the workers goes; what was trained is in the checkpoint.
    """
    heed_notices()
    recipe = job.stage.recipe
    assert isinstance(recipe, PretrainRecipe)
    spec, folder = recipe.pretrain, job.folder / CHECKPOINT
    manifests = [(training_videos(entry, job.manifests, job.removals), entry.weight) for entry in spec.data.mixture]
    source = PretrainSource(manifests, spec.data, recipe.seed, job.execution.reader)
    indexed = [Unreadable(**one) for one in source.unreadable]
    quarantine = Quarantine(job.folder, folder, world, source.num_videos, indexed, job.execution.max_unreadable)
    step = world.gather(step_reached(folder, PretrainRecipe) if world.rank == 0 else 0)[0]
    clock, samples = StartClock(job, world, step, entered), SampleLog(job.folder, world, step)
    rows = Rows(spec.optim.batch_size, spec.optim.iterations, rank=world.rank, world=world.size)

    def save(info: StepInfo[PretrainState]) -> None:
        quarantine.keep()
        samples.keep(info.step)
        reporter.sync()
        save_checkpoint(folder, info.state, recipe, source.fingerprint, writes=world.rank == 0)

    def heed(info: StepInfo[PretrainState]) -> None:
        if not notice.given() or info.step == info.last_step:
            return
        if info.step % job.execution.checkpoint_every:
            save(info)
        world.gather(None)  # nobody leaves before the checkpoint is written
        raise NodeLeaving(f"asked to leave after step {info.step}")

    notice = Notice(world)
    batches = stream(source, rows, job.stream_options(source.row_bytes), first=step)
    with closing(StepReporter(job, world, step)) as reporter:
        pretrain(
            recipe,
            world,
            clock.watch(samples.watch(quarantine.watch(batches))),
            order=source.fingerprint,
            resume=folder if step else None,
            micro_batch=job.execution.micro_batch,
            parallel=job.execution.parallel,
            activation_checkpointing=job.execution.activation_checkpointing,
            hooks=[clock.done, *reporter.hooks, every(job.execution.checkpoint_every, save), heed],
        )
    return _outcome(job, quarantine.keep())


def _outcome(job: StageJob, coverage: Coverage) -> Outcome:
    metrics = read_journal(job.folder / JOURNAL)[-1]
    optional = [name for name in (SAMPLES, STARTS, QUARANTINE) if (job.folder / name).is_file()]
    return Outcome(
        metrics={name: value for name, value in metrics.items() if name != "time"},
        coverage={"n": coverage.total, "covered": coverage.covered},
        files=[f"{CHECKPOINT}/{STATE_FILE}", JOURNAL, *optional],
        unreadable=coverage.by_reason(),
    )
