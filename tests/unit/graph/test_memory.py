"""Estimated memory against the peak of real steps, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vjepa_exp.graph.cost import stage_cost
from vjepa_exp.graph.stage import Stage
from vjepa_exp.spec.datasets import Registry
from vjepa_exp.spec.execution import ExecutionSpec
from vjepa_exp.spec.stages import PretrainRecipe

TUBES = [{"kind": "random_tube", "ratio": 0.7}, {"kind": "random_tube", "ratio": 0.85}]
"""Masks whose lengths are the same in every draw: the largest draw makes a peak, an estimate knows the mean."""
SCRIPT = Path(__file__).with_name("peak_memory.py")


def recipe_of(model: dict[str, Any], clip: dict[str, Any], batch: int, group: int = 4, **more: Any) -> PretrainRecipe:
    pretrain = {
        "data": {"mixture": [{"dataset": "any"}], "clip": clip},
        "mask_group_size": group,
        "masks": TUBES,
        "precision": "fp32",
        "optim": {"batch_size": batch, "iterations": 10, "warmup": 1},
    }
    body = {"seed": 0, "model": model, "pretrain": pretrain | more, "digests": {}}
    return PretrainRecipe.model_validate_json(json.dumps(body))


SMALL = {"arch": "vit_small", "predictor": {"depth": 6, "embed_dim": 192}}
TINY = {"arch": "vit_tiny", "predictor": {"depth": 4, "embed_dim": 96}}
WIDE = {
    "arch": "custom", "embed_dim": 768, "depth": 4, "num_heads": 12, "mlp_ratio": 4.0,
    "predictor": {"depth": 2, "embed_dim": 192},
}  # fmt: skip
DEEP = {
    "arch": "custom", "embed_dim": 384, "depth": 16, "num_heads": 6, "mlp_ratio": 4.0,
    "predictor": {"depth": 4, "embed_dim": 192},
}  # fmt: skip
CLIP = {"num_frames": 16, "resolution": 112}
TINY_CLIP = {"num_frames": 4, "resolution": 96}
CONFIGURATIONS = {
    "activations": (recipe_of(SMALL, CLIP, 4), ExecutionSpec(micro_batch=4)),
    "micro-batches": (recipe_of(SMALL, CLIP, 8), ExecutionSpec(micro_batch=4)),
    "long clips": (recipe_of(TINY, {"num_frames": 16, "resolution": 224}, 4), ExecutionSpec(micro_batch=4)),
    "weights": (recipe_of(WIDE, {"num_frames": 8, "resolution": 96}, 4), ExecutionSpec(micro_batch=4)),
    "pixels": (recipe_of(SMALL, CLIP, 4, objective={"kind": "pixels"}), ExecutionSpec(micro_batch=4)),
    "one mask": (recipe_of(SMALL, CLIP, 4, masks=TUBES[:1]), ExecutionSpec(micro_batch=4)),
    "computed again": (recipe_of(SMALL, CLIP, 4), ExecutionSpec(micro_batch=4, activation_checkpointing=True)),
    "computed again, long clips": (
        recipe_of(TINY, {"num_frames": 16, "resolution": 224}, 4),
        ExecutionSpec(micro_batch=4, activation_checkpointing=True),
    ),
    "computed again, micro-batches": (recipe_of(DEEP, TINY_CLIP, 16), ExecutionSpec(activation_checkpointing=True)),
    "two workers": (recipe_of(DEEP, TINY_CLIP, 8), ExecutionSpec(workers=2)),
    "slices": (recipe_of(DEEP, TINY_CLIP, 8), ExecutionSpec(workers=2, parallel="fsdp")),
    "slices of four": (recipe_of(DEEP, TINY_CLIP, 16), ExecutionSpec(workers=4, parallel="fsdp")),
    "slices, one mask": (
        recipe_of(DEEP, TINY_CLIP, 8, masks=TUBES[:1]),
        ExecutionSpec(workers=2, parallel="fsdp"),
    ),
    "slices, micro-batches, computed again": (
        recipe_of(DEEP, TINY_CLIP, 16),
        ExecutionSpec(workers=2, parallel="fsdp", activation_checkpointing=True),
    ),
}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc to measure a peak")
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_estimated_memory_is_within_a_tenth_of_the_measured_peak(name: str, tmp_path: Path) -> None:
    recipe, execution = CONFIGURATIONS[name]
    cost = stage_cost(Stage("pretrain", "x", recipe), execution, Registry(tmp_path / "no"))
    assert cost is not None
    # Freed memory goes back at once, as on a device; without this the heap of glibc keeps what was large before.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, SCRIPT, recipe.model_dump_json(), execution.model_dump_json(), tmp_path],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert cost.memory_bytes == pytest.approx(int(done.stdout), rel=0.1)
