"""A pretraining stage inside a Ray Train worker: stream, resume, train, leave a checkpoint."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from vjepa_exp.data.manifest import read_entries
from vjepa_exp.data.source import PretrainSource
from vjepa_exp.evals.coverage import Coverage
from vjepa_exp.runtime.job import CHECKPOINT, Outcome, StageJob
from vjepa_exp.runtime.quarantine import Quarantine, write_quarantine
from vjepa_exp.runtime.rows import Rows
from vjepa_exp.runtime.steps import StepReporter
from vjepa_exp.runtime.stream import stream
from vjepa_exp.spec.stages import PretrainRecipe
from vjepa_exp.track.journal import JOURNAL, read_journal
from vjepa_exp.train.checkpoint import STATE_FILE, read_checkpoint, save_checkpoint
from vjepa_exp.train.hooks import every
from vjepa_exp.train.loop import StepInfo
from vjepa_exp.train.pretrain import pretrain
from vjepa_exp.train.pretrain_step import PretrainState
from vjepa_exp.train.world import World


def run_pretraining(job: StageJob, world: World) -> Outcome:
    """Train to the last step, from the checkpoint in the stage's folder where there is one.

    Raises:
        UserError: data or checkpoint do not fit, too many videos are unreadable, or training diverged.
    """
    recipe = job.stage.recipe
    assert isinstance(recipe, PretrainRecipe)
    spec, folder = recipe.pretrain, job.folder / CHECKPOINT
    manifests = [(read_entries(job.manifests[entry.dataset], "train"), entry.weight) for entry in spec.data.mixture]
    source = PretrainSource(manifests, spec.data, recipe.seed, job.execution.reader)
    quarantine = Quarantine(job.folder, source.num_videos, source.unreadable, job.execution.max_unreadable)
    step = world.gather(_step(folder))[0]
    rows = Rows(spec.optim.batch_size, spec.optim.iterations, rank=world.rank, world=world.size)

    def save(info: StepInfo[PretrainState]) -> None:
        _keep_quarantine(job, quarantine, world)
        if world.rank == 0:
            save_checkpoint(folder, info.state, recipe, source.fingerprint)

    with closing(StepReporter(job, world, step)) as reporter:
        pretrain(
            recipe,
            world,
            quarantine.watch(stream(source, rows, job.stream_options(source.row_bytes), first=step)),
            order=source.fingerprint,
            resume=folder if step else None,
            micro_batch=job.execution.micro_batch,
            hooks=[*reporter.hooks, every(job.execution.checkpoint_every, save)],
        )
    return _outcome(job, _keep_quarantine(job, quarantine, world))


def _step(folder: Path) -> int:
    return int(read_checkpoint(folder).state["step"]) if (folder / STATE_FILE).is_file() else 0


def _keep_quarantine(job: StageJob, quarantine: Quarantine, world: World) -> Coverage:
    mine = quarantine.coverage
    everywhere = Coverage.of(mine.total, [one for part in world.gather(mine.unreadable) for one in part])
    if world.rank == 0:
        write_quarantine(job.folder, everywhere.unreadable)
    return everywhere


def _outcome(job: StageJob, coverage: Coverage) -> Outcome:
    metrics = read_journal(job.folder / JOURNAL)[-1]
    files = [f"{CHECKPOINT}/{STATE_FILE}", JOURNAL, *write_quarantine(job.folder, coverage.unreadable)]
    return Outcome(
        metrics={name: value for name, value in metrics.items() if name != "time"},
        coverage={"n": coverage.total, "covered": coverage.covered},
        files=files,
    )
