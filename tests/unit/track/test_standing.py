"""How a study stands, told from what a run leaves in its folders."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from vjepa_exp.graph.plan import Plan, build_plan
from vjepa_exp.graph.stage import Stage
from vjepa_exp.graph.store import Store
from vjepa_exp.spec.datasets import Registry
from vjepa_exp.spec.load import read_experiment, resolve
from vjepa_exp.track.journal import JOURNAL, Journal
from vjepa_exp.track.progress import PROGRESS, STARTS, Progress
from vjepa_exp.track.standing import FAILURE, standing


@pytest.fixture
def plan(tmp_path: Path, repo_root: Path) -> Plan:
    resolved = resolve(read_experiment(repo_root / "experiments" / "quickstart.yaml"), "paper")
    return build_plan(resolved, Registry(tmp_path / "datasets.yaml"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


@pytest.fixture
def stage(plan: Plan) -> Stage:
    return next(stage for stage in plan.stages if stage.kind == "pretrain")


def age(file: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(file, (then, then))


def test_a_place_that_a_killed_run_left_is_not_that_of_the_run_that_goes_on(
    plan: Plan, store: Store, stage: Stage
) -> None:
    folder = store.begin(stage)
    Progress("step", 40, 120).write(folder)
    age(folder / PROGRESS, 60)
    assert standing(plan, store).state(stage) == "stopped at step 40 of 120"
    with store.lock():
        assert standing(plan, store).state(stage) == "stopped at step 40 of 120"
        Progress("step", 41, 120).write(folder)
        assert standing(plan, store).state(stage) == "running, step 41 of 120"
    assert standing(plan, store).state(stage) == "stopped at step 41 of 120"


def test_a_failure_is_told_until_the_stage_is_done_again(plan: Plan, store: Store, stage: Stage) -> None:
    folder = store.begin(stage)
    (folder / FAILURE).write_text("Traceback ...\n  line 3\nValueError: the loss is not finite\n", encoding="utf-8")
    age(folder / FAILURE, 60)
    result = standing(plan, store)
    assert result.state(stage) == "failed"
    assert result.failed[stage.fingerprint] == f"ValueError: the loss is not finite (log: {folder / FAILURE})"
    with store.lock():
        assert standing(plan, store).state(stage) == "not begun", "the run that goes on has not come to it yet"
        Progress("step", 1, 120).write(folder)
        assert standing(plan, store).state(stage) == "running, step 1 of 120"
    assert standing(plan, store).state(stage) == "stopped at step 1 of 120"
    store.commit(stage, {"loss": 0.5}, [], {})
    result = standing(plan, store)
    assert (result.state(stage), result.failed, result.stopped) == ("done", {}, {})


def test_without_a_place_the_journal_tells_how_far_it_was(plan: Plan, store: Store, stage: Stage) -> None:
    assert standing(plan, store).state(stage) == "not begun"
    journal = Journal(store.begin(stage) / JOURNAL)
    journal.write(7, {"loss": 1.0})
    journal.close()
    assert standing(plan, store).state(stage) == "stopped at step 7"


def test_a_stage_runs_from_its_start_on(plan: Plan, store: Store, stage: Stage) -> None:
    folder = store.begin(stage)
    with store.lock():
        STARTS.write(folder)
        assert standing(plan, store).state(stage) == "running, workers start"
    assert standing(plan, store).state(stage) == "not begun", "nothing of it is kept"


def test_the_summary_counts_every_stage_once(plan: Plan, store: Store, stage: Stage) -> None:
    Progress("step", 40, 120).write(store.begin(stage))
    number = len(plan.stages)
    assert standing(plan, store).summary() == (
        f"0 of {number} stages are done, 1 is stopped, {number - 1} are not begun"
    )
    for one in plan.stages:
        store.begin(one)
        store.commit(one, {"top1": 50.0}, [], {})
    assert standing(plan, store).summary() == ""
