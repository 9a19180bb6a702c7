"""One of several gloo workers, started by test_world: pretrains and probes on the batches it finds in a folder.

Each probe is trained once more, from a checkpoint near the end of the first time.
"""

from __future__ import annotations

import pickle
import sys
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from vjepa_exp.spec.stages import PretrainRecipe, ProbeRecipe
from vjepa_exp.train.checkpoint import read_checkpoint, save_checkpoint
from vjepa_exp.train.encoders import frozen_encoder
from vjepa_exp.train.hooks import log_metrics
from vjepa_exp.train.joint import ProbeResult
from vjepa_exp.train.loop import StepInfo
from vjepa_exp.train.pretrain import pretrain
from vjepa_exp.train.probe import Resume, train_probes
from vjepa_exp.train.probe_data import Split
from vjepa_exp.train.probe_step import ProbeState
from vjepa_exp.train.world import World

BEFORE_LAST = 2
"""Steps that are left to do for a probe that goes on."""


def save_twice(info: StepInfo[ProbeState], *, world: World, recipe: ProbeRecipe, folder: Path) -> None:
    for step, there in ((1, folder / "first"), (info.last_step - BEFORE_LAST, folder)):
        if info.step == step:
            save_checkpoint(there, info.state, recipe, "order", writes=world.rank == 0)


def main(folder: Path, rank: int, size: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=size)
    world = World(rank=rank, size=size, wrap=DistributedDataParallel)
    given = pickle.loads((folder / f"batches_{rank}.pkl").read_bytes())
    recipe = PretrainRecipe.model_validate_json((folder / "pretrain.json").read_bytes())
    losses: dict[int, float] = {}
    log = log_metrics(world, lambda step, values: losses.update({step: values["loss"]}))
    state = pretrain(recipe, world, given["pretrain"], order="order", hooks=[log])
    result = {"losses": losses, "weights": state.model.encoder.state_dict()}
    for kind in ("kept", "streamed"):
        probe = ProbeRecipe.model_validate_json((folder / f"{kind}.json").read_bytes())
        train, test = (Split(given[f"{kind}_{split}"], given["sizes"][split]) for split in ("train", "test"))
        save = partial(save_twice, world=world, recipe=probe, folder=folder / f"probe-{kind}")
        (outcome,) = train_probes([probe], world, frozen_encoder(probe, None), train, test, 4, hooks=[[save]])
        assert isinstance(outcome, ProbeResult)
        first = round(outcome.curve[-1]["step"]) - BEFORE_LAST
        rest = train._replace(batches=given["streamed_train"][first:]) if kind == "streamed" else train
        resume = Resume([folder / f"probe-{kind}"], "order")
        encoder = frozen_encoder(probe, None)
        (again,) = train_probes([probe], world, encoder, rest, test, 4, resume=resume, first=first)
        assert isinstance(again, ProbeResult)
        result[kind] = {"metrics": outcome.metrics, "coverage": outcome.coverage, "train": outcome.train_coverage}
        result[kind] |= {"again": (again.metrics, again.curve, again.coverage, again.train_coverage)}
        saved = read_checkpoint(folder / f"probe-{kind}" / "first", ProbeRecipe).state["unreadable"]
        result[kind] |= {"unreadable after step 1": [path for path, *_ in saved]}
        result[kind] |= {"once": (outcome.metrics, outcome.curve, outcome.coverage, outcome.train_coverage)}
    torch.save(result, folder / f"result_{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
