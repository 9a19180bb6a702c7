"""Workers on real gloo processes: whole networks or slices, blocks computed again or not, the numbers are those of one.

The workers of a size are started once and train in all ways one after the other.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vjepa_exp.spec.stages import PretrainRecipe
from vjepa_exp.train.checkpoint import read_checkpoint
from vjepa_exp.train.world import World

SCRIPT = Path(__file__).with_name("worker.py")


@dataclass(frozen=True)
class Way:
    """How some workers train: options of `pretrain`, from which step to which."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    recipe: str = "fp32"
    resume: str | None = None
    first: int = 0
    last: int | None = None


WAYS = (
    Way("ddp"),
    Way("fsdp", {"parallel": "fsdp"}),
    Way("ddp again", {"micro_batch": 1, "activation_checkpointing": True}),
    Way("fsdp again", {"micro_batch": 1, "activation_checkpointing": True, "parallel": "fsdp"}),
)


@dataclass(frozen=True)
class Ended:
    """Where a run has ended: the checkpoint's tensors by name, and what each worker says."""

    tensors: dict[str, Tensor]
    workers: list[dict[str, Any]]

    @property
    def losses(self) -> dict[int, float]:
        return {step: values["loss"] for step, values in self.workers[0]["metrics"].items()}


def flat(value: Any, name: str = "") -> dict[str, Tensor]:
    """Every tensor of a tree by its path."""
    if isinstance(value, Tensor):
        return {name: value}
    items = value.items() if isinstance(value, dict) else ()
    return {path: tensor for key, inner in items for path, tensor in flat(inner, f"{name}.{key}").items()}


Train = Callable[..., dict[str, Ended]]


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Ended]]:
    """Has workers train in some ways, each the same global batches."""

    def start(size: int, ways: tuple[Way, ...], recipes: dict[str, PretrainRecipe], clips: Any) -> dict[str, Ended]:
        folder = tmp_path_factory.mktemp(f"{size} workers")
        (folder / "ways.json").write_text(json.dumps([asdict(way) for way in ways]))
        for name, recipe in recipes.items():
            (folder / f"{name}.json").write_text(recipe.model_dump_json())
        steps = recipes["fp32"].pretrain.optim.iterations
        for rank, rows in enumerate(World(0, size).shares(8)):
            (folder / f"batches_{rank}.pkl").write_bytes(pickle.dumps(list(clips().batches(0, 8 * steps, 8, rows))))
        workers = [subprocess.Popen([sys.executable, SCRIPT, folder, str(rank), str(size)]) for rank in range(size)]
        assert [worker.wait(timeout=250) for worker in workers] == [0] * size
        return {way.name: ended(folder, way.name, size) for way in ways}

    return start


def ended(folder: Path, name: str, size: int) -> Ended:
    workers = [torch.load(folder / f"{name}_{rank}.pt", weights_only=False) for rank in range(size)]
    state = read_checkpoint(folder / name).state if "metrics" in workers[0] else {}
    return Ended(flat(state), workers)
