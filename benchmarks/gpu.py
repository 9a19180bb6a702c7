"""One CUDA device: pretraining steps against what its matrix units do, and memory against the plan's estimate.

    python benchmarks/gpu.py                                 # all models below, about five minutes on an H100
    python benchmarks/gpu.py --models vit_large --profile    # and where the time of a step goes
    python benchmarks/gpu.py --models vit_large --compile    # with blocks compiled

Each model trains with the project's own `pretrain`, the paper's masks, bf16 and noise instead of decoded clips, which
lie in host memory as the stream delivers them: staging, copying to the device and drawing masks are part of a step.

- TFLOP/s: the plan's count of a step over its time; the share is that of a matrix product of 8192x8192x8192 in bf16,
  measured before
- host: what the host takes to ask for a step of a device that has nothing else to do; below the time of a step the
  device never waits for it
- memory: the most that PyTorch's allocator had given out at a time, and the estimate of the plan over it
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from made_up import MadeUp
from torch.profiler import ProfilerActivity, profile

from vjepa_exp.graph.cost import stage_cost
from vjepa_exp.graph.stage import Stage
from vjepa_exp.spec.datasets import Registry
from vjepa_exp.spec.execution import ExecutionSpec
from vjepa_exp.spec.stages import PretrainRecipe
from vjepa_exp.train.pretrain import pretrain
from vjepa_exp.train.world import World
from vjepa_models.layers import Block

CUDA = torch.device("cuda")
WARM_UP, WATCHED = 3, 5
"""Steps before the clock starts; steps after it stopped, each watched alone."""


@dataclass(frozen=True)
class Model:
    """What trains: clips of a step, of a forward pass and of a mask group."""

    arch: str
    resolution: int
    batch: int
    micro_batch: int
    group: int = 24
    steps: int = 10
    objective: str = "features"

    @property
    def recipe(self) -> PretrainRecipe:
        """All else as in Table 8."""
        small = self.arch in ("vit_tiny", "vit_small")
        predictor = {"depth": 6, "embed_dim": 192} if small else {"depth": 12, "embed_dim": 384}
        pretrain = {
            "data": {"mixture": [{"dataset": "none"}], "clip": {"num_frames": 16, "resolution": self.resolution}},
            "mask_group_size": self.group,
            "objective": {"kind": self.objective},
            "precision": "bf16",
            "optim": {"batch_size": self.batch, "iterations": WARM_UP + self.steps + WATCHED, "warmup": 1},
        }
        model = {"arch": self.arch, "predictor": predictor}
        body = {"seed": 0, "model": model, "pretrain": pretrain, "digests": {}}
        return PretrainRecipe.model_validate_json(json.dumps(body))


MODELS = (
    Model("vit_small", 112, batch=384, micro_batch=96),
    Model("vit_base", 224, batch=96, micro_batch=48),
    Model("vit_large", 224, batch=96, micro_batch=24),
    Model("vit_large", 224, batch=96, micro_batch=48),
    Model("vit_large", 224, batch=96, micro_batch=24, objective="pixels"),
    Model("vit_huge", 224, batch=48, micro_batch=24),
    Model("vit_huge", 384, batch=20, micro_batch=10, group=10, steps=6),
)


@dataclass
class Watch:
    """Times of the steps: a run without a look at the device, then steps that are waited for."""

    steps: int
    begun: float = 0.0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.host: list[float] = []

    def batches(self, recipe: PretrainRecipe) -> Iterator[dict[str, Any]]:
        """The batches of a run."""
        size, clip = recipe.pretrain.optim.batch_size, recipe.pretrain.data.clip
        rows = MadeUp.of(clip).load(np.arange(size))
        for step in range(recipe.pretrain.optim.iterations):
            batch = rows | {"position": np.arange(step * size, (step + 1) * size)}
            if step >= WARM_UP + self.steps:
                torch.cuda.synchronize()
                self.begun = time.perf_counter()
            yield batch

    def step_done(self, info: Any) -> None:
        """Hook: a step was asked for."""
        if info.step > WARM_UP + self.steps:
            self.host.append(time.perf_counter() - self.begun)
        elif info.step == WARM_UP:
            torch.cuda.synchronize()
            self.begun = time.perf_counter()
        elif info.step == WARM_UP + self.steps:
            torch.cuda.synchronize()
            self.seconds = (time.perf_counter() - self.begun) / self.steps


def matrix_flops(size: int = 8192, times: int = 20) -> float:
    """FLOP/s of a matrix product of random bf16 numbers."""
    a, b = (torch.randn(size, size, device=CUDA, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    torch.cuda.synchronize()
    begun = time.perf_counter()
    for _ in range(times):
        a @ b
    torch.cuda.synchronize()
    return 2 * size**3 * times / (time.perf_counter() - begun)


def measure(model: Model, ceiling: float) -> str:
    """Train and give the row of a table."""
    recipe, watch = model.recipe, Watch(model.steps)
    execution = ExecutionSpec(device="cuda", micro_batch=model.micro_batch)
    cost = stage_cost(Stage("pretrain", "x", recipe), execution, Registry(Path("none")))
    assert cost is not None
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    world = World(device=CUDA)
    batches = watch.batches(recipe)
    pretrain(recipe, world, batches, order="none", micro_batch=model.micro_batch, hooks=[watch.step_done])
    peak = torch.cuda.max_memory_allocated() - before
    rate = model.batch * (cost.forward_flops + cost.backward_flops) / watch.seconds
    name = model.arch if model.objective == "features" else f"{model.arch} pixels"
    return (
        f"{name:18}{model.resolution:5}{model.batch:6}{model.micro_batch:6}"
        f"{1e3 * watch.seconds:9.0f}{model.batch / watch.seconds:9.1f}{rate / 1e12:9.0f}{rate / ceiling:7.2f}"
        f"{1e3 * statistics.median(watch.host):8.0f}{peak / 1e9:9.2f}{cost.memory_bytes / peak:10.3f}"
    )


def where_time_goes(model: Model) -> str:
    """The kernels of a step that take most, and how long all of them take."""
    watch = Watch(0)
    recipe = model.recipe
    optim = recipe.pretrain.optim.model_copy(update={"iterations": WARM_UP + 1})
    recipe = recipe.model_copy(update={"pretrain": recipe.pretrain.model_copy(update={"optim": optim})})
    profiler = profile(activities=[ProfilerActivity.CUDA], acc_events=True)

    def start(info: Any) -> None:
        if info.step == WARM_UP:
            torch.cuda.synchronize()
            profiler.start()

    world = World(device=CUDA)
    pretrain(recipe, world, watch.batches(recipe), order="none", micro_batch=model.micro_batch, hooks=[start])
    torch.cuda.synchronize()
    profiler.stop()
    kernels = sorted(profiler.key_averages(), key=lambda event: -event.self_device_time_total)
    total, calls = sum(event.self_device_time_total for event in kernels), sum(event.count for event in kernels)
    lines = [
        f"{event.self_device_time_total / 1e3:9.1f} ms {event.count:6} {event.key[:110]}" for event in kernels[:24]
    ]
    return "\n".join([f"{total / 1e3:9.1f} ms {calls:6} all kernels of a step", *lines])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", help="only those of these architectures")
    parser.add_argument("--compile", action="store_true", help="compile the transformer block")
    parser.add_argument("--profile", action="store_true", help="print the kernels of the last model")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("there is no CUDA device here")
    ceiling = matrix_flops()
    chosen = [model for model in MODELS if not options.models or model.arch in options.models]
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}")
    print(f"matrix product: {ceiling / 1e12:.0f} TFLOP/s in bf16")
    print(
        f"{'model':18}{'px':>5}{'batch':>6}{'micro':>6}{'ms/step':>9}{'clips/s':>9}{'TFLOP/s':>9}{'share':>7}", end=""
    )
    print(f"{'host ms':>8}{'peak GB':>9}{'estimate':>10}")
    if options.compile:
        Block.forward = torch.compile(Block.forward, dynamic=True)  # type: ignore[method-assign]
    for model in chosen:
        print(measure(model, ceiling), flush=True)
    if options.profile:
        print(where_time_goes(chosen[-1]))


if __name__ == "__main__":
    main()
