"""Ray Train for one trial: start its workers, give each its place in the world, start again after a loss."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count
from typing import Any
from uuid import uuid4

from ray._private.state import available_resources_per_node
from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.backend import BackendConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2._internal.callbacks import DatasetsCallback

from vjepa_exp.runtime.entry import worker
from vjepa_exp.runtime.environment import START_TIMEOUT
from vjepa_exp.runtime.group import Exchange, Group
from vjepa_exp.runtime.job import CHECKPOINT, Failure, Outcome, StageJob
from vjepa_exp.runtime.losses import Losses, timed_out
from vjepa_exp.runtime.process_group import OneMachine
from vjepa_exp.spec.stages import PretrainRecipe
from vjepa_exp.track.progress import STARTS
from vjepa_exp.track.starts import read_starts
from vjepa_exp.train.checkpoint import STATE_FILE

# What is ignored by the type checker below are names of Train V2, which `ray.train` puts in place of V1's at import.


class StandingWorkers:
    """Workers of a process that wait for its next stages, which are of one level: all of them want such workers."""

    def __init__(self) -> None:
        """Nobody yet: the first stage brings them."""
        self._group: Group | None = None

    def do(self, jobs: Sequence[StageJob], attempt: int) -> list[Outcome | Failure]:
        """Have stages done. Workers go where a stage failed: what it left in them nobody knows.

        Raises:
            TrainingFailedError: the workers were lost.
        """
        group, self._group = self._group, None
        if group is None or group.ended:
            job = jobs[0]
            exchange = Exchange(job.scratch / f"exchange-{uuid4().hex}")
            group = Group(_trainer({"exchange": exchange}, job, job.slots.workers, attempt), exchange)
        outcomes = group.do(jobs)
        if any(isinstance(one, Failure) for one in outcomes):
            group.end()
        else:
            self._group = group
        return outcomes

    def dismiss(self) -> None:
        """End what waits for stages that do not come any more."""
        group, self._group = self._group, None
        if group is not None and not group.ended:
            group.end()


def train_stages(jobs: Sequence[StageJob], standing: StandingWorkers) -> list[Outcome | Failure]:
    """Do a pretraining, or probes that share one pass of the encoder, in processes of Ray Train.

    A worker that is lost costs the steps since the last checkpoint. Failures are counted here and not by Ray: what a
    user has to mend is not tried again, a node that is lost is nobody's failure, and the checkpoints are those of the
    stage's folder, which also serve a run that is started anew.

    On a cluster whose nodes come and go every start waits for all workers at first, and then takes as many as there is
    room for, down to `execution.min_workers`.

    Args:
        jobs: the stages.
        standing: who does them off a cluster.

    Returns:
        For each stage what it yields, or why it alone failed.

    Raises:
        UserError: something is wrong with the data, the checkpoint or the recipe.
        TrainingFailedError: the workers failed more often than `execution.max_failures`.
    """
    jobs, first = [_at_first(job) for job in jobs], jobs[0]
    losses, workers, begun = Losses(jobs), first.slots.workers, time.time()
    if first.slots.joined:
        os.environ[START_TIMEOUT] = str(first.execution.wait_s)
    for attempt in count():
        try:
            if first.slots.joined:
                return _by_new_workers(jobs, workers, attempt)
            return standing.do(jobs, attempt)
        except TrainingFailedError as error:
            if first.slots.joined and timed_out(error):
                workers = _fitting(first) or first.slots.workers
                continue
            losses.note(error)
        jobs, workers, begun = [_again(job, begun) for job in jobs], first.slots.workers, time.time()
    raise AssertionError("unreachable")


def worker_counts(job: StageJob) -> list[int]:
    """Numbers of workers that a stage may be done by, the largest first; with FSDP all of them share a batch evenly."""
    recipe, execution, workers, batch = job.stage.recipe, job.execution, job.slots.workers, 0
    if isinstance(recipe, PretrainRecipe) and execution.parallel == "fsdp":
        batch = recipe.pretrain.optim.batch_size
    fewer = range(workers - 1, execution.fewest_workers - 1, -1)
    return [workers, *(number for number in fewer if batch % number == 0)]


def _fitting(job: StageJob) -> int | None:
    """The most workers that there is room for at this moment; None: not enough."""
    free = sum(
        min(int(node.get(name, 0.0) / amount) for name, amount in job.slots.asks.items())
        for node in available_resources_per_node().values()
    )
    return next((number for number in worker_counts(job) if number <= free), None)


def _at_first(job: StageJob) -> StageJob:
    """The stage as the first attempt of this process has it; an earlier process of the same trial may be lost."""
    if job.ready is not None and all(start.time < job.ready for start in read_starts(job.folder)):
        return job
    return replace(job, before={}, ready=time.time(), lost_since=job.ready and _saved(job, job.ready))


def _again(job: StageJob, begun: float) -> StageJob:
    """The stage as an attempt has it after the loss of one that had begun at a moment."""
    with suppress(OSError):  # a full disk: the stage itself fails of it, and says so
        STARTS.write(job.folder)
    return replace(job, before={}, ready=time.time(), lost_since=_saved(job, begun))


def _saved(job: StageJob, begun: float) -> float:
    """Since when nothing is kept of an attempt that had begun at a moment."""
    try:
        return max(begun, (job.folder / CHECKPOINT / STATE_FILE).stat().st_mtime)
    except FileNotFoundError:
        return begun


def _by_new_workers(jobs: Sequence[StageJob], workers: int, attempt: int) -> list[Outcome | Failure]:
    """Have workers that leave with their stages: on a cluster the next ones may want others, or other nodes."""
    result = _trainer({"jobs": jobs}, jobs[0], workers, attempt).fit()
    outcomes = result.return_value  # type: ignore[attr-defined]
    assert isinstance(outcomes, list)
    return outcomes


class StreamTrainer(TorchTrainer):
    """Without the process that hands out Ray's own shares of data sets: workers make theirs (`stream`)."""

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()  # type: ignore[misc]
        return [one for one in callbacks if not isinstance(one, DatasetsCallback)]


def _trainer(config: dict[str, Any], job: StageJob, workers: int, attempt: int) -> TorchTrainer:
    return StreamTrainer(
        worker,  # type: ignore[arg-type]
        train_loop_config=config,
        torch_config=_process_group(job),  # type: ignore[arg-type]
        scaling_config=ScalingConfig(
            num_workers=workers, use_gpu="GPU" in job.slots.asks, resources_per_worker=job.slots.asks
        ),
        run_config=RunConfig(  # type: ignore[call-arg]
            name=f"attempt-{attempt}",
            storage_path=str(job.scratch),
            failure_config=FailureConfig(  # type: ignore[call-arg]
                max_failures=0, controller_failure_limit=0, max_preemption_failures=0
            ),
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )


def _process_group(job: StageJob) -> BackendConfig:
    backend = "nccl" if job.slots.device == "cuda" else "gloo"
    return TorchConfig(backend) if job.slots.joined else OneMachine(backend, str(job.scratch))
