"""What only a CUDA device can show: no waiting in a step, the numbers of the CPU, memory as estimated, going on after
a break.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from vjepa_exp.graph.cost import stage_cost
from vjepa_exp.graph.stage import Stage
from vjepa_exp.spec.datasets import Registry
from vjepa_exp.spec.execution import ExecutionSpec
from vjepa_exp.spec.stages import PretrainRecipe
from vjepa_exp.train.batch import ClipBatch
from vjepa_exp.train.checkpoint import save_checkpoint
from vjepa_exp.train.loop import StepInfo
from vjepa_exp.train.mask_groups import cut_rows, draw_masks
from vjepa_exp.train.parallel import recompute_blocks, shard
from vjepa_exp.train.precision import autocast
from vjepa_exp.train.pretrain import initial_state, pretrain
from vjepa_exp.train.pretrain_step import PretrainState, make_pretrain_step
from vjepa_exp.train.verify import verify
from vjepa_exp.train.world import World

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

SMALL = {"arch": "vit_small", "predictor": {"depth": 6, "embed_dim": 192}}
BASE = {"arch": "vit_base", "predictor": {"depth": 12, "embed_dim": 384}}
LARGE = {"arch": "vit_large", "predictor": {"depth": 12, "embed_dim": 384}}
TUBES = [{"kind": "random_tube", "ratio": 0.7}, {"kind": "random_tube", "ratio": 0.85}]
"""Masks whose lengths are the same in every draw: the largest draw makes a peak, an estimate knows the mean."""


def recipe_of(
    model: dict[str, Any],
    batch: int,
    *,
    resolution: int = 112,
    steps: int = 6,
    clip_grad: float = 10.0,
    clip_grad_after: int = 5000,
    **more: Any,
) -> PretrainRecipe:
    clipping = {"clip_grad": clip_grad, "clip_grad_after": clip_grad_after}
    spec = {
        "data": {"mixture": [{"dataset": "any"}], "clip": {"num_frames": 16, "resolution": resolution}},
        "mask_group_size": 4,
        "masks": TUBES,
        "optim": {"batch_size": batch, "iterations": steps, "warmup": 1} | clipping,
    }
    body = {"seed": 0, "model": model, "pretrain": spec | more, "digests": {}}
    return PretrainRecipe.model_validate_json(json.dumps(body))


def batches(recipe: PretrainRecipe, first: int = 0) -> Iterator[dict[str, Any]]:
    clip, size = recipe.pretrain.data.clip, recipe.pretrain.optim.batch_size
    shape = (size, 1, clip.num_frames, clip.resolution, clip.resolution, 3)
    for step in range(first, recipe.pretrain.optim.iterations):
        yield {
            "position": np.arange(step * size, (step + 1) * size),
            "clips": np.random.default_rng(step).integers(0, 256, shape, dtype=np.uint8),
            "erased": np.zeros((size, 1, 4), np.int64),
            "path": np.full(size, ""),
            "error": np.full(size, ""),
        }


def train(recipe: PretrainRecipe, device: str, **more: Any) -> tuple[PretrainState, list[float]]:
    """The trained state and the losses of the steps, asked for after the last one."""
    metrics: list[Any] = []
    first = more.pop("first", 0)
    hooks = [lambda info: metrics.append(info.metrics), *more.pop("hooks", [])]
    world = World(device=torch.device(device))
    state = pretrain(recipe, world, batches(recipe, first), order="none", hooks=hooks, **more)
    return state, [one.to_floats()["loss"] for one in metrics]


def test_no_step_waits_for_the_device() -> None:
    recipe = recipe_of(SMALL, 8, precision="bf16", steps=4)

    def forbid(info: StepInfo[Any]) -> None:
        torch.cuda.set_sync_debug_mode("default" if info.step == info.last_step else "error")

    try:
        train(recipe, "cuda", hooks=[forbid])
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("again", [False, True])
def test_no_step_of_slices_waits_for_the_device(again: bool, tmp_path: Path) -> None:
    recipe = recipe_of(SMALL, 8, precision="bf16", steps=4, clip_grad=1.0, clip_grad_after=0)
    _, whole = train(recipe, "cuda", activation_checkpointing=again)
    dist.init_process_group("nccl", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        assert losses_of_slices(recipe, torch.device("cuda", 0), again) == pytest.approx(whole, abs=1e-5)
    finally:
        torch.cuda.set_sync_debug_mode("default")
        dist.destroy_process_group()


def losses_of_slices(recipe: PretrainRecipe, device: torch.device, again: bool) -> list[float]:
    """Losses of a sharded network on its one worker; from the second step on nothing may wait for the device."""
    spec, world = recipe.pretrain, World(device=device)
    state = initial_state(recipe, device, partial(shard, world=world))
    if again:
        recompute_blocks(state.model)
    rows = range(spec.optim.batch_size)
    [cut] = cut_rows([rows], spec.mask_group_size, spec.mask_group_size)
    step_fn = make_pretrain_step(spec.optim, autocast=autocast(spec.precision, device), cut=cut)
    metrics = []
    for step, batch in enumerate(batches(recipe), start=1):
        torch.cuda.set_sync_debug_mode("error" if step > 1 else "default")
        masks = draw_masks(spec, state.model.encoder.config.grid, recipe.seed, step, rows, device)
        clips = ClipBatch.of(batch).on_device(device, spec.data.clip.num_frames, recipe.seed)
        metrics.append(step_fn(state, clips, masks))
    torch.cuda.set_sync_debug_mode("default")
    return [one.to_floats()["loss"] for one in metrics]


def test_single_precision_gives_the_losses_of_the_cpu() -> None:
    recipe = recipe_of(SMALL, 4, precision="fp32")
    (_, cuda), (_, cpu) = train(recipe, "cuda"), train(recipe, "cpu")
    assert cuda == pytest.approx(cpu, abs=1e-5)


def test_half_precision_stays_near_single_precision() -> None:
    (_, half), (_, single) = (train(recipe_of(SMALL, 4, precision=name), "cuda") for name in ("bf16", "fp32"))
    assert half == pytest.approx(single, rel=0.01)


def test_training_goes_on_from_a_checkpoint_as_if_never_broken(tmp_path: Path) -> None:
    recipe = recipe_of(SMALL, 4, precision="bf16")

    def save(info: StepInfo[Any]) -> None:
        if info.step == 3:
            save_checkpoint(tmp_path, info.state, recipe, "none")

    whole, losses = train(recipe, "cuda", hooks=[save])
    again, later = train(recipe, "cuda", resume=tmp_path, first=3)
    assert later == pytest.approx(losses[3:], abs=1e-5)
    for name, value in whole.model.state_dict().items():  # the backward pass of attention sums in no fixed order
        torch.testing.assert_close(again.model.state_dict()[name], value, rtol=0, atol=1e-4, msg=name)


def test_agrees_with_the_reference(shared_dir: Path) -> None:
    for folder in sorted(path.parent for path in shared_dir.glob("parity/*/golden.npz")):
        rows = verify(folder / "checkpoint.pth.tar", folder, "cuda")
        assert not [row for row in rows if not row.ok]


CONFIGURATIONS = {
    "activations": (recipe_of(BASE, 8, precision="bf16", resolution=224), 8),
    "micro-batches": (recipe_of(BASE, 16, precision="bf16", resolution=224), 4),
    "weights": (recipe_of(LARGE, 4, precision="bf16"), 4),
    "large": (recipe_of(LARGE, 24, precision="bf16", resolution=224), 12),
    "single precision": (recipe_of(BASE, 8, precision="fp32"), 4),
    "pixels": (recipe_of(BASE, 8, precision="bf16", objective={"kind": "pixels"}), 8),
    "one mask": (recipe_of(BASE, 8, precision="bf16", masks=TUBES[:1]), 8),
}
AGAIN = {
    "large": (recipe_of(LARGE, 24, precision="bf16", resolution=224), 12),
    "single precision": (recipe_of(BASE, 8, precision="fp32"), 4),
}


@pytest.mark.parametrize(
    ("name", "again"), [*((name, False) for name in CONFIGURATIONS), *((name, True) for name in AGAIN)]
)
def test_estimated_memory_is_within_a_tenth_of_the_measured_peak(name: str, again: bool, tmp_path: Path) -> None:
    recipe, micro_batch = (AGAIN if again else CONFIGURATIONS)[name]
    execution = ExecutionSpec(device="cuda", micro_batch=micro_batch, activation_checkpointing=again)
    cost = stage_cost(Stage("pretrain", "x", recipe), execution, Registry(tmp_path / "no"))
    assert cost is not None
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    train(recipe, "cuda", micro_batch=micro_batch, activation_checkpointing=again)
    assert cost.memory_bytes == pytest.approx(torch.cuda.max_memory_allocated() - before, rel=0.1)
