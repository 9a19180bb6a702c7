"""Several workers: real gloo processes give the numbers of one worker."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from vjepa_exp.spec.augment import CropFlip
from vjepa_exp.spec.stages import PretrainRecipe, ProbeRecipe
from vjepa_exp.train.world import World

SIZES = {"train": 43, "test": 21}
BAD = {"train": (3, 6), "test": (5, 20)}
"""Of the first training batch each of two workers has one."""


def test_rows_cover_a_batch_once_in_order() -> None:
    for size, num_rows in ((1, 8), (2, 8), (3, 8), (5, 3)):
        parts = [World(rank, size).rows(num_rows) for rank in range(size)]
        assert [row for part in parts for row in part] == list(range(num_rows))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def start(folder: Path, size: int, recipe: PretrainRecipe, probe: ProbeRecipe, clips: Any) -> list[dict[str, Any]]:
    """Run `size` workers on the same global batches and return what each of them found."""
    folder.mkdir()
    streamed = probe.model_copy(update={"probe": probe.probe.model_copy(update={"augment": CropFlip()})})
    for name, value in {"pretrain": recipe, "kept": probe, "streamed": streamed}.items():
        (folder / f"{name}.json").write_text(value.model_dump_json())
    optim = recipe.pretrain.optim
    train, test = (clips(seed, num_videos=SIZES[s], bad=BAD[s]) for seed, s in enumerate(SIZES, start=1))
    for rank in range(size):
        rows = World(rank, size).rows(8)
        mine = {split: World(rank, size).rows(num) for split, num in SIZES.items()}
        given = {
            "sizes": SIZES,
            "pretrain": list(clips().batches(0, optim.iterations * 8, 8, rows)),
            "kept_train": list(train.batches(mine["train"].start, mine["train"].stop, 6)),
            "streamed_train": list(train.batches(0, 8 * (SIZES["train"] // 8) * 8, 8, rows)),
            "kept_test": list(test.batches(mine["test"].start, mine["test"].stop, 6)),
        }
        given["streamed_test"] = given["kept_test"]
        (folder / f"batches_{rank}.pkl").write_bytes(pickle.dumps(given))
    script = Path(__file__).with_name("two_workers.py")
    workers = [subprocess.Popen([sys.executable, str(script), str(folder), str(r), str(size)]) for r in range(size)]
    assert [worker.wait(timeout=200) for worker in workers] == [0] * size
    return [torch.load(folder / f"result_{rank}.pt", weights_only=False) for rank in range(size)]


def test_two_workers_train_as_one(
    recipe: PretrainRecipe, probe_recipe: ProbeRecipe, clips: Any, tmp_path: Path
) -> None:
    [alone] = start(tmp_path / "one", 1, recipe, probe_recipe, clips)
    first, second = start(tmp_path / "two", 2, recipe, probe_recipe, clips)
    assert first["losses"] == pytest.approx(alone["losses"], rel=1e-4)
    assert second["losses"] == {}  # rank 0 logs for all
    for name, value in alone["weights"].items():
        assert torch.equal(first["weights"][name], second["weights"][name])
        torch.testing.assert_close(first["weights"][name], value, rtol=1e-3, atol=1e-4)
    for kind in ("kept", "streamed"):
        for worker in (first, second):
            assert worker[kind]["coverage"] == alone[kind]["coverage"]
            assert worker[kind]["train"] == alone[kind]["train"]
            assert worker[kind]["unreadable after step 1"] == ["3.mp4", "6.mp4"]
            assert worker[kind]["again"] == worker[kind]["once"]  # from a checkpoint near the end
            assert worker[kind]["metrics"] == pytest.approx(alone[kind]["metrics"], rel=1e-2)
        assert alone[kind]["metrics"]["n"] == SIZES["test"] - 2
