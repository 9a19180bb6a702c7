"""Prints by how many bytes real pretraining steps raise the peak of one worker: peak_memory.py RECIPE EXECUTION FOLDER.

Several workers are processes that meet in the folder; the last one is measured.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from vjepa_exp.spec.execution import ExecutionSpec
from vjepa_exp.spec.model import ModelSpec
from vjepa_exp.spec.pretrain import PretrainSpec
from vjepa_exp.spec.stages import PretrainRecipe
from vjepa_exp.train.batch import Batch
from vjepa_exp.train.pretrain import pretrain
from vjepa_exp.train.world import World, as_it_is


def batches(recipe: PretrainRecipe, rows: range, steps: int) -> Iterator[Batch]:
    """A worker's rows of random batches, one in memory at a time."""
    spec = recipe.pretrain
    shape = (len(rows), 1, spec.data.clip.num_frames, spec.data.clip.resolution, spec.data.clip.resolution, 3)
    for step in range(steps):
        first = step * spec.optim.batch_size
        yield {
            "position": np.arange(first + rows.start, first + rows.stop),
            "clips": np.zeros(shape, np.uint8),
            "erased": np.zeros((len(rows), 1, 4), np.int64),
            "path": np.full(len(rows), ""),
            "error": np.full(len(rows), ""),
        }


def train(recipe: PretrainRecipe, execution: ExecutionSpec, world: World) -> None:
    """Two steps; the second one is the first with optimiser state."""
    recipe = recipe.model_copy(update={"pretrain": with_steps(recipe.pretrain, 2)})
    pretrain(
        recipe,
        world,
        batches(recipe, world.rows(recipe.pretrain.optim.batch_size), 2),
        order="none",
        micro_batch=execution.micro_batch,
        parallel=execution.parallel,
        activation_checkpointing=execution.activation_checkpointing,
    )


def with_steps(spec: PretrainSpec, steps: int) -> PretrainSpec:
    return spec.model_copy(update={"optim": spec.optim.model_copy(update={"iterations": steps})})


def memory(name: str) -> int:
    """A size of this process out of /proc, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


def small(recipe: PretrainRecipe) -> PretrainRecipe:
    """The recipe with a network of nothing: what a first step loads of the libraries is no memory of a model."""
    tiny = {"arch": "vit_tiny", "predictor": {"depth": 1, "embed_dim": 96}}
    model = ModelSpec.model_validate(tiny)
    clip = recipe.pretrain.data.clip.model_copy(update={"num_frames": 4, "resolution": 64})
    data = recipe.pretrain.data.model_copy(update={"clip": clip})
    return recipe.model_copy(update={"model": model, "pretrain": recipe.pretrain.model_copy(update={"data": data})})


def work(rank: int, recipe: PretrainRecipe, execution: ExecutionSpec, folder: Path) -> None:
    """One worker of the execution."""
    torch.set_num_threads(1)
    size = execution.workers
    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=size)
    world = World(rank, size, wrap=DistributedDataParallel if size > 1 else as_it_is)
    train(small(recipe), execution, world)
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    train(recipe, execution, world)
    if rank == size - 1:
        sys.stdout.write(str(memory("VmHWM") - before))
        sys.stdout.flush()


if __name__ == "__main__":
    recipe, execution = (
        PretrainRecipe.model_validate_json(sys.argv[1]),
        ExecutionSpec.model_validate_json(sys.argv[2]),
    )
    workers = [
        multiprocessing.get_context("fork").Process(target=work, args=(rank, recipe, execution, Path(sys.argv[3])))
        for rank in range(execution.workers)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    sys.exit(max(abs(worker.exitcode or 0) for worker in workers))
