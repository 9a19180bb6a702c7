"""One of several gloo workers, started by test_parallel: pretrains in every way that a folder asks for.

    worker.py FOLDER RANK SIZE

`ways.json` names the ways (options of `pretrain`, and of what to do around it); each leaves RANK's results in a file.
"""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.stages import PretrainRecipe
from vjepa_exp.train.checkpoint import save_checkpoint
from vjepa_exp.train.hooks import log_metrics
from vjepa_exp.train.loop import StepInfo
from vjepa_exp.train.parallel import local
from vjepa_exp.train.pretrain import pretrain
from vjepa_exp.train.pretrain_step import PretrainState
from vjepa_exp.train.world import World


class Stopped(Exception):
    """The run was to end here."""


def train(folder: Path, way: dict[str, Any], world: World, batches: list[Any]) -> dict[str, Any]:
    """One run: from the start or a checkpoint, to the end or a step, where it leaves a checkpoint."""
    recipe = PretrainRecipe.model_validate_json((folder / f"{way['recipe']}.json").read_bytes())
    first, last = way["first"], way["last"] or recipe.pretrain.optim.iterations
    metrics: dict[int, dict[str, float]] = {}
    held = 0

    def stop(info: StepInfo[PretrainState]) -> None:
        nonlocal held
        if info.step == last:
            save_checkpoint(folder / way["name"], info.state, recipe, "order", writes=world.rank == 0)
            held = sum(local(p).numel() for group in info.state.optimizer.param_groups for p in group["params"])
            raise Stopped

    log = log_metrics(world, lambda step, values: metrics.update({step: values}))
    resume = Path(way["resume"]) if way["resume"] else None
    try:
        pretrain(recipe, world, batches[first:], order="order", resume=resume, hooks=[log, stop], **way["options"])
    except Stopped:
        return {"metrics": metrics, "held": held}
    except UserError as error:
        return {"error": str(error)}
    raise AssertionError("it went on")


def main(folder: Path, rank: int, size: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=size)
    world = World(rank=rank, size=size, wrap=DistributedDataParallel if size > 1 else lambda module: module)
    batches = pickle.loads((folder / f"batches_{rank}.pkl").read_bytes())
    for way in json.loads((folder / "ways.json").read_bytes()):
        result = train(folder, way, world, batches)
        torch.save(result, folder / f"{way['name']}_{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
