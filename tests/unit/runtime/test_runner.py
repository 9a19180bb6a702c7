"""What a run makes of a stage that has ended."""

from __future__ import annotations

import time
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from vjepa_exp.graph.joint import JointPlan
from vjepa_exp.graph.plan import Plan, build_plan
from vjepa_exp.graph.stage import Stage
from vjepa_exp.graph.store import Store
from vjepa_exp.runtime.job import Outcome
from vjepa_exp.runtime.runner import _Run
from vjepa_exp.runtime.view import View
from vjepa_exp.spec.datasets import Registry
from vjepa_exp.spec.load import PAPER, read_experiment, resolve


@pytest.fixture
def plan(tmp_path: Path, repo_root: Path) -> Plan:
    file = repo_root / "experiments" / "quickstart.yaml"
    return build_plan(resolve(read_experiment(file), PAPER, ()), Registry(tmp_path / "datasets.yaml"))


def stage_of(plan: Plan, kind: str) -> Stage:
    return next(stage for stage in plan.stages if stage.kind == kind)


def test_a_result_that_cannot_be_recorded_is_a_failure_and_nothing_stands_on_it(plan: Plan, tmp_path: Path) -> None:
    store, out = Store(tmp_path / "runs"), StringIO()
    console = Console(file=out, width=400)
    run = _Run(JointPlan((plan,)), store, Registry(tmp_path / "datasets.yaml"), console, None, False, time.time())
    stage = stage_of(plan, "pretrain")
    run.records |= {needed.fingerprint: object() for needed in stage.inputs}
    job = run._job(stage, tmp_path)
    with View(console, 0, 1) as view:
        run._began(view, job)
        run._ended(view, job, Outcome({"loss": 0.5}, {"n": 1, "covered": 1}, ["checkpoint/state.pt"]), 1.0)
    assert "checkpoint/state.pt" in run.failed[stage.fingerprint]
    assert "FAILED" in out.getvalue()
    assert store.record(stage) is None
    assert not run._inputs_done(stage_of(plan, "probe"))
