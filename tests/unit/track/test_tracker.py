"""The mirror of a study in MLflow, on a real SQLite server: late, interrupted, continued, away."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from vjepa_exp.graph.plan import Plan, build_plan
from vjepa_exp.graph.store import Record, Store
from vjepa_exp.spec.datasets import Registry
from vjepa_exp.spec.load import PAPER, read_experiment, resolve
from vjepa_exp.track.database import runs_page, tracking_uri
from vjepa_exp.track.journal import JOURNAL, Journal
from vjepa_exp.track.ledger import Entry, Ledger
from vjepa_exp.track.mirror import Mirror, attach
from vjepa_exp.track.starts import Start, note_start
from vjepa_exp.track.tracker import Tracker, flat

EXPERIMENT = {
    "name": "study",
    "paper": {"table": 4},
    "recipe": {
        "pretrain": {"data": {"mixture": [{"dataset": "tiny_motion"}]}, "optim": {"iterations": 20, "warmup": 2}},
        "evaluate": {"motion": {"kind": "linear_probe", "dataset": "tiny_motion"}},
    },
    "vary": {"axes": {"pretrain.optim.lr": {"low": 1.0e-4, "high": 1.0e-3}}},
}


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """A study of two variants."""
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(EXPERIMENT), encoding="utf-8")
    return build_plan(resolve(read_experiment(path), PAPER), Registry(tmp_path / "datasets.yaml"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "runs")


def begin(store: Store, plan: Plan, steps: int) -> None:
    """The first pretraining of the plan as a run leaves it after some steps."""
    stage = next(stage for stage in plan.stages if stage.kind == "pretrain")
    journal = Journal(store.begin(stage) / JOURNAL)
    for step in range(1, steps + 1):
        journal.write(step, {"loss": 1 / step})
    journal.close()


def finish(store: Store, plan: Plan, **extra: Any) -> dict[str, Record]:
    """All stages of the plan done, each begun a minute after the one before and done after ten seconds."""
    records = {}
    for minute, stage in enumerate(plan.stages):
        folder = store.begin(stage)
        metrics = {"top1": 50.0} if stage.kind == "probe" else {"loss": 0.5}
        files = ["checkpoint/state.pt"] if stage.kind == "pretrain" else []
        for name in files:
            (folder / name).parent.mkdir()
            (folder / name).write_text("weights")
        times = {"started": f"2026-01-01T00:{minute:02}:00+00:00", "seconds": 10.0}
        records[stage.fingerprint] = store.commit(stage, metrics, files, times | extra)
    return records


def runs_of(store: Store) -> dict[str, Run]:
    client = MlflowClient(tracking_uri(store, None))
    experiment = client.get_experiment_by_name("vjepa-exp")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert len({run.info.run_name for run in runs}) == len(runs), "names tell the runs apart"
    return {run.data.tags.get("stage", run.info.run_name): run for run in runs}


def test_a_run_that_was_interrupted_continues_its_mlflow_runs(plan: Plan, store: Store) -> None:
    begin(store, plan, steps=7)
    stage = next(stage for stage in plan.stages if stage.kind == "pretrain")
    Tracker(plan, store, None).sync({}, {}, {stage.fingerprint: 1_000_000.25}, ended=True)
    before = runs_of(store)
    assert {run.info.status for run in before.values()} == {"KILLED"}

    begin(store, plan, steps=12)
    tracker = Tracker(plan, store, None)
    tracker.sync(finish(store, plan), {}, {}, ended=True)
    after = runs_of(store)
    assert {run.info.status for run in after.values()} == {"FINISHED"}
    assert {name: after[name].info.run_id for name in before} == {name: run.info.run_id for name, run in before.items()}
    history = MlflowClient(tracking_uri(store, None)).get_metric_history(after[stage.id].info.run_id, "loss")
    assert sorted(metric.step for metric in history) == list(range(1, 13))
    assert tracker.run_id(stage) == after[stage.id].info.run_id
    assert after[stage.id].info.start_time == 1_000_000_250


def test_pages_of_runs_are_where_the_browser_finds_them(plan: Plan, store: Store) -> None:
    stage, tracker = plan.stages[0], Tracker(plan, store, None)
    assert tracker.page(stage) is None
    tracker.sync(finish(store, plan), {}, {}, ended=True)
    assert tracker.page(stage) == f"http://127.0.0.1:5000/#/runs/{tracker.run_id(stage)}"
    assert tracker.page() not in (None, tracker.page(stage))
    assert tracker.page_note == f"vjepa-exp ui --store {store.root}"

    (told,) = (store.root / "tracking").iterdir()
    known = {key: Entry(**entry) for key, entry in json.loads(told.read_text(encoding="utf-8")).items()}
    run = known[stage.id].run_id
    for uri, page in (("https://host/", f"https://host/#/runs/{run}"), ("sqlite:///other.db", None)):
        ledger = Ledger(store.root / "tracking", told.stem.rpartition("-")[0], uri)
        ledger.entries = known
        ledger.save()
        server = Tracker(plan, store, uri)
        assert (server.page(stage), server.page_note) == (page, "")


def test_restarts_and_unreadable_videos_are_metrics(plan: Plan, store: Store) -> None:
    begin(store, plan, steps=4)
    stage = next(stage for stage in plan.stages if stage.kind == "pretrain")
    note_start(store.path(stage), Start(0, 0, 10.0, {"ray": 4.0, "batch": 2.0}))
    Tracker(plan, store, None).sync({}, {}, {stage.fingerprint: 1.0}, ended=True)
    note_start(store.path(stage), Start(2, 2, 20.0, {"ray": 5.0, "batch": 2.5}))
    extra = {"coverage": {"n": 40, "covered": 37}, "unreadable": {"tiny_motion": {"corrupt": 2, "crash": 1}}}
    Tracker(plan, store, None).sync(finish(store, plan, **extra), {}, {}, ended=True)
    run = runs_of(store)[stage.id]
    assert (
        run.data.metrics.items()
        >= {
            "videos.n": 40,
            "videos.covered": 37,
            "unreadable": 3,
            "unreadable.tiny_motion.corrupt": 2,
            "unreadable.tiny_motion.crash": 1,
        }.items()
    )
    client = MlflowClient(tracking_uri(store, None))
    for name, values in (("start.total_s", [6.0, 7.5]), ("start.ray_s", [4.0, 5.0]), ("start.repeated_steps", [0, 2])):
        history = sorted(client.get_metric_history(run.info.run_id, name), key=lambda metric: metric.step)
        assert [(metric.step, metric.value) for metric in history] == list(zip((0, 2), values, strict=True)), name


def test_the_tree_is_study_variant_stage_with_parameters_and_tags(plan: Plan, store: Store) -> None:
    Tracker(plan, store, None).sync(finish(store, plan), {}, {}, ended=True)
    runs = runs_of(store)
    by_id = {run.info.run_id: run for run in runs.values()}
    for stage in plan.stages:
        run = runs[stage.id]
        assert run.data.tags["fingerprint"] == stage.fingerprint
        assert run.data.tags["paper_table"] == "4"
        if stage.kind != "data":
            variant = by_id[run.data.tags["mlflow.parentRunId"]]
            assert variant.data.tags["kind"] == "variant"
            assert variant.data.metrics["motion.top1"] == 50.0
            assert by_id[variant.data.tags["mlflow.parentRunId"]].data.tags["kind"] == "study"
    rates = {run.data.params["pretrain.optim.lr"] for run in runs.values() if run.data.tags["kind"] == "pretrain"}
    assert rates == {"0.0001", "0.001"}


def test_names_times_and_files_are_what_a_person_looks_for(plan: Plan, store: Store, tmp_path: Path) -> None:
    tracker = Tracker(plan, store, None)
    tracker.sync(finish(store, plan), {}, {}, ended=True)
    (tmp_path / "report.md").write_text("a table")
    attach(tracker, [tmp_path / "report.md"], pytest.fail)
    runs, client = runs_of(store), MlflowClient(tracking_uri(store, None))
    assert {run.info.run_name for run in runs.values() if run.data.tags["kind"] in ("data", "pretrain", "probe")} == {
        "data tiny",
        *(f"pretrain lr = {level}" for level in ("low", "high")),
        *(f"probe motion: lr = {level}" for level in ("low", "high")),
    }
    starts = [runs[stage.id].info.start_time for stage in plan.stages]
    assert [(later - starts[0]) / 60_000 for later in starts] == list(range(len(starts)))
    for stage in plan.stages:
        run = runs[stage.id]
        assert run.info.end_time - run.info.start_time == 10_000
        checkpoint = run.data.tags.get("checkpoint")
        assert checkpoint is None if stage.kind != "pretrain" else Path(str(checkpoint)).is_file()
    study = next(run for run in runs.values() if run.data.tags["kind"] == "study")
    assert runs_page(store).startswith(f"#/experiments/{study.info.experiment_id}/runs?")
    assert [file.path for file in client.list_artifacts(study.info.run_id)] == ["experiment.yaml", "report"]
    assert [file.path for file in client.list_artifacts(study.info.run_id, "report")] == ["report/report.md"]


def test_a_failure_is_marked_with_its_reason(plan: Plan, store: Store) -> None:
    begin(store, plan, steps=3)
    stage = next(stage for stage in plan.stages if stage.kind == "pretrain")
    Tracker(plan, store, None).sync({}, {stage.fingerprint: "the loss is nan"}, {}, ended=True)
    run = runs_of(store)[stage.id]
    assert (run.info.status, run.data.tags["failure"]) == ("FAILED", "the loss is nan")


def test_a_server_that_is_away_is_reported_once_and_nothing_is_lost(plan: Plan, store: Store) -> None:
    begin(store, plan, steps=5)
    lines: list[str] = []
    away = Mirror(Tracker(plan, store, "http://127.0.0.1:9"), {}, {}, {}, lines.append)
    away.start()
    away.finish()
    assert [line for line in lines if "cannot be used" in line] == [
        "MLflow (http://127.0.0.1:9) cannot be used, the run goes on without it: Connection refused"
    ]
    assert all("\n" not in line for line in lines)

    Tracker(plan, store, None).sync(finish(store, plan), {}, {}, ended=True)
    stage = next(stage for stage in plan.stages if stage.kind == "pretrain")
    assert runs_of(store)[stage.id].data.metrics["loss"] == 1 / 5


def test_a_full_disk_is_reported_and_what_it_refused_arrives_later(
    plan: Plan, small_disk: Callable[[str], Path]
) -> None:
    store, lines = Store(small_disk("200k")), list[str]()
    begin(store, plan, steps=5)
    full = Mirror(Tracker(plan, store, None), {}, {}, {}, lines.append)
    full.start()
    full.finish()
    assert [line for line in lines if "No space left on device" in line]
    assert len(lines) == 2
    assert {path.name for path in store.root.iterdir() if path.name.startswith((".mlflow", "mlflow"))} == set()

    small_disk("50m")
    Tracker(plan, store, None).sync(finish(store, plan), {}, {}, ended=True)
    stage = next(stage for stage in plan.stages if stage.kind == "pretrain")
    assert runs_of(store)[stage.id].data.metrics["loss"] == 1 / 5


def test_nested_parameters_become_dotted_names() -> None:
    value = {"a": {"b": 1, "c": [1, 2]}, "masks": [{"kind": "x"}, {"kind": "y"}], "none": None, "empty": {}}
    assert flat(value) == {"a.b": "1", "a.c": "[1, 2]", "masks.0.kind": "x", "masks.1.kind": "y", "none": "None"}


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "mlflow"]
