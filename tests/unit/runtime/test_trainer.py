"""With how many workers a stage may start."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vjepa_exp.runtime.job import StageJob
from vjepa_exp.runtime.slots import Slots
from vjepa_exp.runtime.trainer import worker_counts
from vjepa_exp.spec.execution import ExecutionSpec, Parallel
from vjepa_exp.spec.stages import PretrainRecipe


def job(workers: int, fewest: int | None, batch: int | None, parallel: Parallel) -> StageJob:
    recipe: Any = None
    if batch is not None:
        recipe = PretrainRecipe.model_construct(pretrain=SimpleNamespace(optim=SimpleNamespace(batch_size=batch)))
    stage: Any = SimpleNamespace(recipe=recipe)
    execution = ExecutionSpec(workers=workers, min_workers=fewest, parallel=parallel)
    slots = Slots("cpu", 1, workers, 1, 1)
    return StageJob(stage, "", Path(), Path(), {}, {}, None, execution, slots)


@pytest.mark.parametrize(
    ("workers", "fewest", "batch", "parallel", "counts"),
    [
        (16, None, 3072, "ddp", [16]),
        (16, 13, 3072, "ddp", [16, 15, 14, 13]),
        (16, 4, 3072, "fsdp", [16, 12, 8, 6, 4]),  # all must make the same passes
        (6, 1, 8, "fsdp", [6, 4, 2, 1]),  # 6 is what the user says
        (4, 2, None, "fsdp", [4, 3, 2]),  # the networks of a probe are not cut
    ],
)
def test_a_stage_starts_with_as_many_workers_as_can_share_its_batch(
    workers: int, fewest: int | None, batch: int | None, parallel: Parallel, counts: list[int]
) -> None:
    assert worker_counts(job(workers, fewest, batch, parallel)) == counts
