"""Gloo workers of several numbers, one run after the other, for test_parallel: worker_runs.py FOLDER.

`runs.json` lists the runs; each leaves in a folder of its name a checkpoint, the samples it saw, and what every worker
says. The workers are forked from one process that has imported everything.
"""

from __future__ import annotations

import json
import multiprocessing
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from vjepa_exp.runtime.samples import SampleLog
from vjepa_exp.spec.stages import PretrainRecipe
from vjepa_exp.train.checkpoint import save_checkpoint
from vjepa_exp.train.hooks import log_metrics
from vjepa_exp.train.loop import StepInfo
from vjepa_exp.train.parallel import local
from vjepa_exp.train.pretrain import pretrain
from vjepa_exp.train.pretrain_step import PretrainState
from vjepa_exp.train.world import World, as_it_is


class StopHere(Exception):  # noqa: N818
    """The run was to end after this step."""


def work(rank: int, folder: Path, run: dict[str, Any]) -> None:
    """One worker of one run."""
    torch.set_num_threads(1)
    size = run["workers"]
    if size > 1:
        rendezvous = f"file://{folder}/{run['name']}.rendezvous"
        dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=size)
    world = World(rank, size, wrap=DistributedDataParallel if size > 1 else as_it_is)
    (folder / run["name"]).mkdir(exist_ok=True)
    torch.save(train(folder, run, world), folder / run["name"] / f"{rank}.pt")
    if size > 1:
        dist.destroy_process_group()


def train(folder: Path, run: dict[str, Any], world: World) -> dict[str, Any]:
    """From the start or another run's checkpoint to the last step, where a checkpoint is left."""
    recipe = PretrainRecipe.model_validate_json((folder / f"{run['recipe']}.json").read_bytes())
    mine, last = folder / run["name"], run["last"]
    samples = SampleLog(mine, world, run["first"])
    metrics: dict[int, dict[str, float]] = {}
    held: list[int] = []

    def stop(info: StepInfo[PretrainState]) -> None:
        if info.step == last:
            samples.keep(last)
            save_checkpoint(mine, info.state, recipe, "order", writes=world.rank == 0)
            held.extend(local(p).numel() for group in info.state.optimizer.param_groups for p in group["params"])
            raise StopHere

    log = log_metrics(world, lambda step, values: metrics.update({step: values}))
    rows = world.rows(recipe.pretrain.optim.batch_size)
    batches = pickle.loads((folder / "batches.pkl").read_bytes())[run["first"] :]
    own = ({name: np.asarray(values)[rows] for name, values in batch.items()} for batch in batches)
    try:
        pretrain(
            recipe,
            world,
            samples.watch(own),
            order="order",
            resume=folder / run["after"] if run["after"] else None,
            hooks=[log, stop],
            **run["options"],
        )
    except StopHere:
        return {"metrics": metrics, "held": sum(held)}
    raise AssertionError("it went on")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for run in json.loads((folder / "runs.json").read_bytes()):
        context = multiprocessing.get_context("fork")
        workers = [context.Process(target=work, args=(rank, folder, run)) for rank in range(run["workers"])]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if any(worker.exitcode for worker in workers):
            sys.exit(f"{run['name']}: {[worker.exitcode for worker in workers]}")
