"""The mirror of a study in MLflow, on a real SQLite server: late, interrupted, continued, away."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vjepa_exp.graph.store import Store
from vjepa_exp.track.database import runs_page
from vjepa_exp.track.ledger import Entry, Ledger
from vjepa_exp.track.mirror import Mirror, attach
from vjepa_exp.track.starts import Start, note_start


def test_a_run_that_was_interrupted_continues_its_mlflow_runs(study) -> None:
    study.begin(steps=7)
    stage = study.pretraining
    study.tracker().sync({}, {}, {stage.fingerprint: 1_000_000.25}, ended=True)
    before = study.runs()
    assert {run.info.status for run in before.values()} == {"KILLED"}

    study.begin(steps=12)
    tracker = study.tracker()
    tracker.sync(study.finish(), {}, {}, ended=True)
    after = study.runs()
    assert {run.info.status for run in after.values()} == {"FINISHED"}
    assert {name: after[name].info.run_id for name in before} == {name: run.info.run_id for name, run in before.items()}
    history = study.client().get_metric_history(after[stage.id].info.run_id, "loss")
    assert sorted(metric.step for metric in history) == list(range(1, 13))
    assert tracker.run_id(stage) == after[stage.id].info.run_id
    assert after[stage.id].info.start_time == 1_000_000_250


def test_pages_of_runs_are_where_the_browser_finds_them(study) -> None:
    stage, store, tracker = study.plan.stages[0], study.store, study.tracker()
    assert (tracker.page(stage), tracker.compare_page()) == (None, None)
    tracker.sync(study.finish(), {}, {}, ended=True)
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
        server = study.tracker(uri)
        assert (server.page(stage), server.page_note) == (page, "")
        assert (server.compare_page() is None) == (page is None)


def test_restarts_and_unreadable_videos_are_metrics(study) -> None:
    study.begin(steps=4)
    stage = study.pretraining
    note_start(study.store.path(stage), Start(0, 0, 10.0, {"ray": 4.0, "batch": 2.0}))
    study.tracker().sync({}, {}, {stage.fingerprint: 1.0}, ended=True)
    note_start(study.store.path(stage), Start(2, 2, 20.0, {"ray": 5.0, "batch": 2.5}))
    extra = {"coverage": {"n": 40, "covered": 37}, "unreadable": {"tiny_motion": {"corrupt": 2, "crash": 1}}}
    study.tracker().sync(study.finish(**extra), {}, {}, ended=True)
    run = study.runs()[stage.id]
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
    client = study.client()
    for name, values in (("start.total_s", [6.0, 7.5]), ("start.ray_s", [4.0, 5.0]), ("start.repeated_steps", [0, 2])):
        history = sorted(client.get_metric_history(run.info.run_id, name), key=lambda metric: metric.step)
        assert [(metric.step, metric.value) for metric in history] == list(zip((0, 2), values, strict=True)), name


def test_the_tree_is_study_variant_stage_with_parameters_and_tags(study) -> None:
    study.tracker().sync(study.finish(), {}, {}, ended=True)
    runs = study.runs()
    by_id = {run.info.run_id: run for run in runs.values()}
    for stage in study.plan.stages:
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


def test_names_times_and_files_are_what_a_person_looks_for(study, tmp_path: Path) -> None:
    tracker = study.tracker()
    tracker.sync(study.finish(), {}, {}, ended=True)
    (tmp_path / "report.md").write_text("a table")
    attach(tracker, [tmp_path / "report.md"], pytest.fail)
    runs, client = study.runs(), study.client()
    assert {run.info.run_name for run in runs.values() if run.data.tags["kind"] in ("data", "pretrain", "probe")} == {
        "data tiny",
        *(f"pretrain lr = {level}" for level in ("low", "high")),
        *(f"probe motion: lr = {level}" for level in ("low", "high")),
    }
    starts = [runs[stage.id].info.start_time for stage in study.plan.stages]
    assert [(later - starts[0]) / 60_000 for later in starts] == list(range(len(starts)))
    for stage in study.plan.stages:
        run = runs[stage.id]
        assert run.info.end_time - run.info.start_time == 10_000
        checkpoint = run.data.tags.get("checkpoint")
        assert checkpoint is None if stage.kind != "pretrain" else Path(str(checkpoint)).is_file()
    top = next(run for run in runs.values() if run.data.tags["kind"] == "study")
    assert runs_page(study.store).startswith(f"#/experiments/{top.info.experiment_id}/runs?")
    assert [file.path for file in client.list_artifacts(top.info.run_id)] == ["experiment.yaml", "report"]
    assert [file.path for file in client.list_artifacts(top.info.run_id, "report")] == ["report/report.md"]


def test_a_failure_is_marked_with_its_reason(study) -> None:
    study.begin(steps=3)
    stage = study.pretraining
    study.tracker().sync({}, {stage.fingerprint: "the loss is nan"}, {}, ended=True)
    run = study.runs()[stage.id]
    assert (run.info.status, run.data.tags["failure"]) == ("FAILED", "the loss is nan")


def test_a_server_that_is_away_is_reported_once_and_nothing_is_lost(study) -> None:
    study.begin(steps=5)
    lines: list[str] = []
    away = Mirror([study.tracker("http://127.0.0.1:9")], {}, {}, {}, lines.append)
    away.start()
    away.finish()
    assert [line for line in lines if "cannot be used" in line] == [
        "MLflow (http://127.0.0.1:9) cannot be used, the run goes on without it: Connection refused"
    ]
    assert all("\n" not in line for line in lines)

    study.tracker().sync(study.finish(), {}, {}, ended=True)
    stage = study.pretraining
    assert study.runs()[stage.id].data.metrics["loss"] == 1 / 5


def test_a_full_disk_is_reported_and_what_it_refused_arrives_later(study, small_disk: Callable[[str], Path]) -> None:
    study.store, lines = Store(small_disk("200k")), list[str]()
    study.begin(steps=5)
    full = Mirror([study.tracker()], {}, {}, {}, lines.append)
    full.start()
    full.finish()
    assert [line for line in lines if "No space left on device" in line]
    assert len(lines) == 2
    assert {path.name for path in study.store.root.iterdir() if path.name.startswith((".mlflow", "mlflow"))} == set()

    small_disk("50m")
    study.tracker().sync(study.finish(), {}, {}, ended=True)
    stage = study.pretraining
    assert study.runs()[stage.id].data.metrics["loss"] == 1 / 5


def test_a_finished_study_is_left_alone_until_its_report_is_there(study, tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text("a table")
    study.tracker().sync(study.finish(), {}, {}, ended=True)
    before = study.runs()
    tracker = study.tracker()
    assert (tracker.up_to_date(), tracker.has_report()) == (True, False)
    attach(tracker, [tmp_path / "gone.md"], lambda line: None)
    assert not study.tracker().has_report()
    attach(tracker, [tmp_path / "report.md"], pytest.fail)
    assert study.tracker().has_report()
    study.tracker().sync(study.finish(), {}, {}, ended=True)
    assert {name: run.info.end_time for name, run in study.runs().items()} == {
        name: run.info.end_time for name, run in before.items()
    }


def test_a_study_that_an_earlier_version_has_told_gets_what_is_new(study) -> None:
    study.tracker().sync(study.finish(), {}, {}, ended=True)
    (file,) = (study.store.root / "tracking").iterdir()
    known = ("run_id", "step", "starts", "status")
    old = {key: {name: entry[name] for name in known} for key, entry in json.loads(file.read_text()).items()}
    for entry in old.values():
        study.client().set_tag(entry["run_id"], "claim", "")
    file.write_text(json.dumps(old))
    tracker = study.tracker()
    assert not tracker.up_to_date()
    tracker.sync(study.finish(), {}, {}, ended=True)
    assert tracker.up_to_date()
    assert {run.info.run_id for run in study.runs().values()} == {entry["run_id"] for entry in old.values()}


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "mlflow"]
