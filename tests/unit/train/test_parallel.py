"""Any number of workers, whole networks or slices, blocks kept or computed again: the numbers of one worker.

Real gloo processes, one run after the other. What differs between them is the order of sums: over rows, micro-batches
and workers. In fp32 that moves the last bits, so after ten steps with AdamW all weights of all runs lie within 1e-6 of
each other (measured: 1e-7); a row that counts twice, masks that follow the workers or a gradient that is not averaged
move them by 1e-2.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

from vjepa_exp.runtime.samples import SAMPLES
from vjepa_exp.spec.stages import PretrainRecipe
from vjepa_exp.train.checkpoint import read_checkpoint
from vjepa_exp.train.mask_groups import cut_rows, draw_masks
from vjepa_exp.train.parallel import shard
from vjepa_exp.train.pretrain import initial_state
from vjepa_exp.train.pretrain_step import make_pretrain_step
from vjepa_exp.train.world import World

pytestmark = pytest.mark.timeout(900)

SCRIPT = Path(__file__).with_name("worker_runs.py")
WEIGHTS, METRICS = 1e-6, 1e-5
FSDP = {"parallel": "fsdp"}
AGAIN = {"activation_checkpointing": True, "micro_batch": 1}


@dataclass(frozen=True)
class Run:
    """How some workers train: options of `pretrain`, after which run, from which step to which."""

    name: str
    workers: int
    options: dict[str, Any] = field(default_factory=dict)
    recipe: str = "fp32"
    after: str = ""
    first: int = 0
    last: int = 10


RUNS = {
    run.name: run
    for run in (
        *(
            Run(f"{size} {kind}{again}", size, options | more)
            for size in (1, 2, 4)
            for kind, options in (("ddp", {}), ("fsdp", FSDP))
            for again, more in (("", {}), (" again", AGAIN))
            if (size, kind) != (1, "fsdp")  # one worker has nothing to cut
        ),
        Run("3 ddp", 3),
        Run("3 fsdp", 3, FSDP),
        Run("2 ddp bf16", 2, {}, "bf16"),
        Run("2 fsdp bf16", 2, FSDP, "bf16"),
        Run("to step 3", 1, last=3),
        Run("to step 6", 2, FSDP, after="to step 3", first=3, last=6),
        Run("to step 10", 1, after="to step 6", first=6),
    )
}


@dataclass(frozen=True)
class Ended:
    """Where a run has ended: its checkpoint, the samples of its steps, and what each worker says."""

    state: dict[str, Any]
    samples: list[int]
    workers: list[dict[str, Any]]

    @property
    def metrics(self) -> dict[int, dict[str, float]]:
        """By step, without the time."""
        steps = self.workers[0]["metrics"].items()
        return {step: {k: v for k, v in values.items() if k != "clips_per_s"} for step, values in steps}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, recipe: PretrainRecipe, clips: Any) -> dict[str, Ended]:
    """All runs by name, on the same ten batches of eight clips in mask groups of four."""
    folder = tmp_path_factory.mktemp("runs")
    for precision in ("fp32", "bf16"):
        spec = recipe.pretrain.model_copy(update={"precision": precision})
        (folder / f"{precision}.json").write_text(recipe.model_copy(update={"pretrain": spec}).model_dump_json())
    batches = list(clips().batches(0, 80, 8))
    (folder / "batches.pkl").write_bytes(pickle.dumps([b | {"sample": b["position"] * 7 % 11} for b in batches]))
    (folder / "runs.json").write_text(json.dumps([asdict(run) for run in RUNS.values()]))
    done = subprocess.run([sys.executable, SCRIPT, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {name: read(folder / name, run.workers) for name, run in RUNS.items()}


def read(folder: Path, workers: int) -> Ended:
    said = [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(workers)]
    return Ended(read_checkpoint(folder, PretrainRecipe).state, np.fromfile(folder / SAMPLES, "<u8").tolist(), said)


def weights(state: dict[str, Any]) -> dict[str, Tensor]:
    return {f"{net}.{k}": v for net in ("encoder", "predictor", "target_encoder") for k, v in state[net].items()}


def distance(ours: Ended, theirs: Ended) -> float:
    """The largest difference between any two weights, those of the target encoder included."""
    a, b = weights(ours.state), weights(theirs.state)
    assert a.keys() == b.keys()
    return max((a[name] - b[name]).abs().max().item() for name in a)


@pytest.mark.parametrize("name", [name for name, run in RUNS.items() if run.recipe == "fp32" and run.last == 10])
def test_the_numbers_are_those_of_one_worker(name: str, ended: dict[str, Ended]) -> None:
    one, run = ended["1 ddp"], ended[name]
    assert distance(run, one) < WEIGHTS
    for step, values in run.metrics.items():
        assert values == pytest.approx(one.metrics[step], rel=METRICS), step
    assert list(run.metrics) == list(range(RUNS[name].first + 1, 11))


@pytest.mark.parametrize("name", [name for name, run in RUNS.items() if not run.after])
def test_the_samples_of_every_step_are_the_same(name: str, ended: dict[str, Ended]) -> None:
    assert len(set(ended["1 ddp"].samples)) == 10
    assert ended[name].samples == ended["1 ddp"].samples[: RUNS[name].last]


def test_precision_is_that_of_autocast_also_for_slices(ended: dict[str, Ended]) -> None:
    whole, slices = ended["2 ddp bf16"], ended["2 fsdp bf16"]
    assert distance(slices, whole) < WEIGHTS
    assert distance(whole, ended["2 ddp"]) > 100 * WEIGHTS


@pytest.mark.parametrize("size", [2, 3, 4])
def test_sharded_networks_lie_in_slices(size: int, ended: dict[str, Ended]) -> None:
    [whole] = [worker["held"] for worker in ended["1 ddp"].workers]
    slices = [worker["held"] for worker in ended[f"{size} fsdp"].workers]
    assert max(slices) < 1.3 * whole / size  # tables and mask tokens are not cut
    assert [worker["held"] for worker in ended["2 ddp"].workers] == [whole, whole]


def test_a_checkpoint_is_the_same_for_any_workers(ended: dict[str, Ended]) -> None:
    def layout(value: Any) -> Any:
        if isinstance(value, Tensor):
            return type(value), tuple(value.shape), value.dtype, value.device
        if isinstance(value, dict):
            return {key: layout(inner) for key, inner in value.items()}
        return [layout(inner) for inner in value] if isinstance(value, list) else value

    one = layout(ended["1 ddp"].state)
    assert all(layout(run.state) == one for name, run in ended.items() if RUNS[name].last == 10)
    moments = [run.state["optimizer"]["state"] for run in (ended["1 ddp"], ended["4 fsdp"])]
    for i, values in moments[0].items():
        torch.testing.assert_close(moments[1][i]["exp_avg"], values["exp_avg"], rtol=1e-3, atol=1e-7)


class NoReading(TorchDispatchMode):
    """Refuses what reads a value on the host."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Every operation that is asked for."""
        assert func is not torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_a_step_of_slices_reads_nothing_on_the_host(recipe: PretrainRecipe, tmp_path: Path) -> None:
    optim = recipe.pretrain.optim.model_copy(update={"clip_grad_after": 0})
    spec = recipe.pretrain.model_copy(update={"optim": optim})
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        state = initial_state(recipe, "cpu", partial(shard, world=World()))
        assert all(isinstance(p, DTensor) for p in state.model.parameters() if p.requires_grad)
        step = make_pretrain_step(optim, cut=cut_rows([range(8)], 4, 4)[0])
        for number in (1, 2):
            masks = draw_masks(spec, state.model.encoder.config.grid, recipe.seed, number, range(8))
            with NoReading():
                metrics = step(state, torch.randn(8, 3, 4, 32, 32), masks)
        with NoReading(), pytest.raises(AssertionError):
            metrics.loss.item()
    finally:
        dist.destroy_process_group()
