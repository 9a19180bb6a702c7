"""A study whose stages are in a real store, with scores chosen here."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from vjepa_exp.graph.plan import Plan, build_plan
from vjepa_exp.graph.result import StudyResult
from vjepa_exp.graph.stage import Stage
from vjepa_exp.graph.store import Store
from vjepa_exp.spec.datasets import Registry
from vjepa_exp.spec.load import read_experiment, resolve

Scores = Callable[[str, str, int, bool], float]
"""(variant, column, seed, baseline) -> top-1 in percent."""


@dataclass(frozen=True)
class Finished:
    """A finished study and its store."""

    result: StudyResult
    store: Store


@pytest.fixture
def finish(tmp_path: Path, repo_root: Path) -> Callable[..., Finished]:
    def _finish(
        experiment: str,
        profile: str,
        scores: Scores,
        sets: tuple[str, ...] = (),
        failed: Callable[[Stage], bool] = lambda stage: False,
        covered: int = 32,
        unreadable: dict[str, dict[str, int]] | None = None,
    ) -> Finished:
        resolved = resolve(read_experiment(repo_root / "experiments" / experiment), profile, sets)
        plan, store = build_plan(resolved, Registry(tmp_path / "datasets.yaml")), Store(tmp_path / "runs")
        records, failures = {}, {}
        for stage in plan.stages:
            if failed(stage):
                failures[stage.fingerprint] = "the worker died"
                continue
            metrics, rows = _outcome(plan, stage, scores)
            journal = store.begin(stage) / "metrics.jsonl"
            journal.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            coverage = {"n": 32, "covered": covered} if stage.kind == "probe" else {}
            extra = {"seconds": 61.0, "coverage": coverage, "unreadable": unreadable or {}}
            records[stage.fingerprint] = store.commit(stage, metrics, [journal.name], extra)
        return Finished(StudyResult(plan, records, failures), store)

    return _finish


def _outcome(plan: Plan, stage: Stage, scores: Scores) -> tuple[dict[str, float], list[dict[str, float]]]:
    """Metrics of a stage and the rows of its journal."""
    if stage.kind == "probe":
        cell = next(cell for cell in plan.cells if cell.stage == stage)
        top1 = scores(cell.variant, cell.column, cell.seed, cell.baseline)
        return {"top1": top1, "chance": 12.5}, [
            {"step": 4 * e, "time": e, "epoch": e, "top1": top1 * e / 2} for e in (1, 2)
        ]
    rows = [{"step": step, "time": step, "loss": 1 / step} for step in range(1, 5)]
    return {"loss": 0.25}, rows if stage.kind == "pretrain" else []
