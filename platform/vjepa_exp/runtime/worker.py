"""What a process of Ray Train does: its stages, as one worker of several."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

import ray
import ray.train
import torch
from ray.train.torch import get_device, prepare_model

from vjepa_exp.runtime.hold import held
from vjepa_exp.runtime.job import Failure, Outcome, StageJob
from vjepa_exp.runtime.pretrain_job import run_pretraining
from vjepa_exp.runtime.probe_batches import probe_recipe
from vjepa_exp.runtime.probe_job import run_probes
from vjepa_exp.runtime.sweep_job import run_sweep
from vjepa_exp.spec.errors import of_machine
from vjepa_exp.train.world import World


def work(jobs: Sequence[StageJob]) -> list[Outcome | Failure]:
    """Do a pretraining, or probes that share one pass of the encoder; every worker calls this.

    Returns:
        For each stage what it yields, or why it alone failed; the same on every worker.

    Raises:
        UserError: something is wrong with the data, the checkpoint, the recipe or this machine.
    """
    entered, job = time.time(), jobs[0]
    context = ray.train.get_context()
    if job.slots.device == "cpu":
        torch.set_num_threads(job.slots.threads)
    device = get_device() if job.slots.device == "cuda" else torch.device("cpu")
    wrap = partial(prepare_model, move_to_device=device)
    world = World(context.get_world_rank(), context.get_world_size(), device, wrap)
    nodes = sorted(set(world.gather(ray.get_runtime_context().get_node_id())))
    try:
        with ExitStack() as folders:
            for one in jobs if world.rank == 0 else ():
                folders.enter_context(held(one.folder, nodes))
            if job.stage.kind == "pretrain":
                return [run_pretraining(job, world, entered)]
            if probe_recipe(job).probe.sweep is not None:
                return [run_sweep(job, world, entered)]
            return run_probes(jobs, world, entered)
    except OSError as error:  # a full disk is not tried again, and it is told in a line
        raise of_machine(error, str(job.folder)) or error from None
