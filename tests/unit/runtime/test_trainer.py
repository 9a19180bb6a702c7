"""With how many workers a stage may start."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vjepa_exp.runtime.job import StageJob
from vjepa_exp.runtime.slots import Slots
from vjepa_exp.runtime.trainer import worker_counts
from vjepa_exp.spec.execution import ExecutionSpec
from vjepa_exp.spec.stages import PretrainRecipe


def job(workers: int, fewest: int | None, batch: int | None) -> StageJob:
    recipe: Any = None
    if batch is not None:
        recipe = PretrainRecipe.model_construct(pretrain=SimpleNamespace(optim=SimpleNamespace(batch_size=batch)))
    stage: Any = SimpleNamespace(recipe=recipe)
    execution, slots = ExecutionSpec(workers=workers, min_workers=fewest), Slots("cpu", 1, workers, 1, 1)
    return StageJob(stage, "", Path(), Path(), {}, {}, None, execution, slots)


@pytest.mark.parametrize(
    ("workers", "fewest", "batch", "counts"),
    [
        (16, None, 3072, [16]),
        (16, 4, 3072, [16, 12, 8, 6, 4]),
        (6, 1, 8, [6, 4, 2, 1]),  # 6 is what the user says
        (4, 2, None, [4, 3, 2]),  # the rows of a probe need not divide
    ],
)
def test_workers_share_a_batch_evenly(workers: int, fewest: int | None, batch: int | None, counts: list[int]) -> None:
    assert worker_counts(job(workers, fewest, batch)) == counts
