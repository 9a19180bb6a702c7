"""Workers of Ray Train that share sharded networks: the samples of one worker and, to rounding, its numbers.

`tests/unit/train/test_parallel.py` shows the numbers on processes without Ray, in `make test`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from vjepa_exp.graph.plan import Plan
from vjepa_exp.graph.store import Store
from vjepa_exp.runtime.runner import run
from vjepa_exp.runtime.samples import SAMPLES
from vjepa_exp.spec.datasets import Registry

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.usefixtures("ray_session"),
    pytest.mark.timeout(900),
]

SHORT = (
    "recipe.evaluate={}",
    "baselines=[]",
    "recipe.pretrain.optim.iterations=12",
    "recipe.pretrain.optim.warmup=2",
    "recipe.pretrain.optim.clip_grad_after=2",
)
SLICES = ("workers=2", "parallel=fsdp", "activation_checkpointing=true", "micro_batch=2")


def test_slices_on_two_workers_end_where_one_worker_ends(
    make_plan: Callable[..., tuple[Plan, Registry]], tmp_path: Path
) -> None:
    def trained(name: str, *settings: str) -> tuple[bytes, dict[str, Any]]:
        plan, registry = make_plan(*SHORT, *(f"execution.{setting}" for setting in settings))
        [stage] = plan.stages
        store = Store(tmp_path / name)
        result = run(plan, store, registry, Console(quiet=True))
        assert not result.failed
        folder = store.path(stage)
        state = torch.load(folder / "checkpoint" / "state.pt", weights_only=True)["state"]
        return (folder / SAMPLES).read_bytes(), state

    (samples, one), (same_samples, slices) = trained("one"), trained("slices", *SLICES)
    assert len(samples) == 12 * 8
    assert same_samples == samples
    for network in ("encoder", "predictor", "target_encoder"):
        for name, weight in one[network].items():
            torch.testing.assert_close(slices[network][name], weight, rtol=0, atol=1e-6, msg=f"{network}.{name}")
