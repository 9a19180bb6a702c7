"""Ray Train for one trial: start its workers, give each its place in the world, start again after a loss."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import ray.train
import torch
from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig, WorkerGroupError
from ray.train.torch import TorchConfig, TorchTrainer, get_device, prepare_model

from vjepa_exp.runtime.hold import held
from vjepa_exp.runtime.job import Failure, Outcome, StageJob
from vjepa_exp.runtime.pretrain_job import run_pretraining
from vjepa_exp.runtime.probe_batches import probe_recipe
from vjepa_exp.runtime.probe_job import run_probes
from vjepa_exp.runtime.process_group import OneMachine
from vjepa_exp.runtime.sweep_job import run_sweep
from vjepa_exp.spec.errors import UserError, of_machine
from vjepa_exp.track.starts import read_starts
from vjepa_exp.train.world import World

# What is ignored by the type checker below are names of Train V2, which `ray.train` puts in place of V1's at import.

START_ATTEMPTS = 3

log = logging.getLogger(__name__)


def train_stages(jobs: Sequence[StageJob]) -> list[Outcome | Failure]:
    """Do a pretraining, or probes that share one pass of the encoder, in processes of Ray Train.

    A worker that is lost costs the steps since the last checkpoint. Failures are counted here and not by Ray: what a
    user has to mend is not tried again, and the checkpoints are those of the stage's folder, which also serve a run
    that is started anew.

    Returns:
        For each stage what it yields, or why it alone failed.

    Raises:
        UserError: something is wrong with the data, the checkpoint or the recipe.
        WorkerGroupError: the workers failed more often than `execution.max_failures`.
    """
    first, allowed = jobs[0], jobs[0].execution.max_failures
    for failures in range(allowed + 1):
        try:
            result = _trainer([_handed_over(job, failures) for job in jobs], attempt=failures).fit()
        except WorkerGroupError as error:
            if mistake := _user_error(error):
                raise mistake from None
            if failures == allowed:
                raise
            log.warning("%s: workers failed (%d of %d)", first.stage.id, failures + 1, allowed)
        else:
            outcomes = result.return_value  # type: ignore[attr-defined]
            assert isinstance(outcomes, list)
            return outcomes
    raise AssertionError("unreachable")


def _handed_over(job: StageJob, failures: int) -> StageJob:
    """The stage as one attempt has it: another attempt did not wait for what came before the first one."""
    if failures == 0 and job.ready is not None and all(start.time < job.ready for start in read_starts(job.folder)):
        return job
    return replace(job, before={}, ready=time.time())


def _trainer(jobs: Sequence[StageJob], attempt: int) -> TorchTrainer:
    job = jobs[0]
    cuda = job.slots.device == "cuda"
    return TorchTrainer(
        _worker,  # type: ignore[arg-type]
        train_loop_config={"jobs": jobs},
        torch_config=_process_group(job),
        scaling_config=ScalingConfig(
            num_workers=job.slots.workers,
            use_gpu=cuda,
            resources_per_worker={"CPU": 1, **({"GPU": 1} if cuda else {})},
        ),
        run_config=RunConfig(  # type: ignore[call-arg]
            name=f"attempt-{attempt}",
            storage_path=str(job.scratch),
            failure_config=FailureConfig(  # type: ignore[call-arg]
                max_failures=0, controller_failure_limit=START_ATTEMPTS
            ),
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )


def _process_group(job: StageJob) -> TorchConfig:
    backend = "nccl" if job.slots.device == "cuda" else "gloo"
    return OneMachine(backend, folder=str(job.scratch)) if job.execution.address is None else TorchConfig(backend)


def _worker(config: dict[str, Any]) -> list[Outcome | Failure]:
    entered = time.time()
    jobs: list[StageJob] = config["jobs"]
    job = jobs[0]
    context = ray.train.get_context()
    if job.slots.device == "cpu":
        torch.set_num_threads(job.slots.threads)
    device = get_device() if job.slots.device == "cuda" else torch.device("cpu")
    world = World(context.get_world_rank(), context.get_world_size(), device, prepare_model)
    try:
        with ExitStack() as folders:
            for one in jobs if world.rank == 0 else ():
                folders.enter_context(held(one.folder))
            if job.stage.kind == "pretrain":
                return [run_pretraining(job, world, entered)]
            if probe_recipe(job).probe.sweep is not None:
                return [run_sweep(job, world, entered)]
            return run_probes(jobs, world, entered)
    except OSError as error:  # a full disk is not tried again, and it is told in a line
        raise of_machine(error, str(job.folder)) or error from None


def _user_error(error: WorkerGroupError) -> UserError | None:
    causes = (getattr(failure, "_base_exc", failure) for failure in error.worker_failures.values())
    return next((cause for cause in causes if isinstance(cause, UserError)), None)
