"""A whole study through Ray: done, done once, continued after kills, reported where it fails."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from mlflow import MlflowClient
from rich.console import Console

from vjepa_exp.data.manifest import read_manifest, write_manifest
from vjepa_exp.graph.plan import Plan
from vjepa_exp.graph.result import StudyResult
from vjepa_exp.graph.stage import Stage
from vjepa_exp.graph.store import Store
from vjepa_exp.runtime.runner import run
from vjepa_exp.spec.datasets import DatasetEntry, Registry
from vjepa_exp.spec.removal import ListedSet, Removal, RemovalList
from vjepa_exp.track.database import tracking_uri
from vjepa_exp.track.journal import JOURNAL, read_journal
from vjepa_exp.track.starts import read_starts

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(900)]

MakePlan = Callable[..., tuple[Plan, Registry]]
PRETRAINING = ("baselines=[]", "recipe.evaluate={}")
"""Nothing but the pretraining."""
SHORT = tuple(f"recipe.pretrain.optim.{field}" for field in ("iterations=4", "warmup=1", "clip_grad_after=0"))
"""Four steps of it."""
DRIVER = """
import sys
from pathlib import Path
from rich.console import Console
from vjepa_exp.graph.plan import build_plan
from vjepa_exp.graph.store import Store
from vjepa_exp.runtime.runner import run
from vjepa_exp.spec.datasets import Registry
from vjepa_exp.spec.load import PAPER, read_experiment, resolve
file, datasets, store = map(Path, sys.argv[1:4])
registry = Registry(datasets)
run(build_plan(resolve(read_experiment(file), PAPER, sys.argv[4:]), registry), Store(store), registry, Console())
"""


def quiet() -> Console:
    return Console(quiet=True)


def stage_of(plan: Plan, kind: str) -> Stage:
    return next(stage for stage in plan.stages if stage.kind == kind)


def weights(store: Store, stage: Stage) -> dict[str, torch.Tensor]:
    state = torch.load(store.path(stage) / "checkpoint" / "state.pt", weights_only=True)["state"]
    return {f"{part}.{name}": value for part in ("encoder", "target_encoder") for name, value in state[part].items()}


def losses(store: Store, stage: Stage) -> list[tuple[float, float]]:
    return [(row["step"], row["loss"]) for row in read_journal(store.path(stage) / JOURNAL)]


def assert_same_bits(store: Store, plan: Plan, unbroken: tuple[Store, StudyResult]) -> None:
    pretrain = stage_of(plan, "pretrain")
    mine, theirs = weights(store, pretrain), weights(unbroken[0], pretrain)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert losses(store, pretrain) == losses(unbroken[0], pretrain)


def wait_until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 600
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def wait_for_step(journal: Path, step: int) -> None:
    wait_until(lambda: any(row["step"] >= step for row in read_journal(journal)), f"step {step} was not reached")


def test_every_stage_is_done_and_recorded(unbroken: tuple[Store, StudyResult]) -> None:
    store, result = unbroken
    assert result.complete
    assert not result.failed
    for stage in result.plan.stages:
        record = result.records[stage.fingerprint]
        assert store.record(stage) == record
        assert record.seconds is not None
    probe = result.records[stage_of(result.plan, "probe").fingerprint]
    assert probe.coverage["n"] == probe.coverage["covered"] == 9
    assert 0 <= probe.metrics["top1"] <= 100


def test_mlflow_holds_the_tree_with_metrics_by_step(unbroken: tuple[Store, StudyResult]) -> None:
    store, result = unbroken
    client = MlflowClient(tracking_uri(store, None))
    experiment = client.get_experiment_by_name("vjepa-exp")
    assert experiment is not None
    runs = {found.info.run_id: found for found in client.search_runs([experiment.experiment_id])}
    assert all(found.info.status == "FINISHED" for found in runs.values())
    stage = stage_of(result.plan, "pretrain")
    mine = next(found for found in runs.values() if found.data.tags.get("fingerprint") == stage.fingerprint)
    variant = runs[mine.data.tags["mlflow.parentRunId"]]
    assert runs[variant.data.tags["mlflow.parentRunId"]].data.tags["kind"] == "study"
    history = client.get_metric_history(mine.info.run_id, "loss")
    assert [(m.step, m.value) for m in sorted(history, key=lambda m: m.step)] == losses(store, stage)
    assert mine.data.params["pretrain.optim.iterations"] == "300"
    assert {file.path for file in client.list_artifacts(mine.info.run_id)} >= {"recipe.yaml", "record.json"}


def test_the_second_run_does_nothing(unbroken: tuple[Store, StudyResult], make_plan: MakePlan) -> None:
    store, first = unbroken
    before = {path: path.stat().st_mtime_ns for path in store.root.glob("*/*") if path.is_file()}
    plan, registry = make_plan()
    again = run(plan, store, registry, quiet())
    assert again.complete
    assert again.reused == {stage.fingerprint for stage in plan.stages}
    assert again.records == first.records
    assert {path: path.stat().st_mtime_ns for path in store.root.glob("*/*") if path.is_file()} == before


def test_a_run_trains_without_the_videos_of_a_removal_list(
    make_plan: MakePlan, datasets_file: Path, tmp_path: Path
) -> None:
    digest = hashlib.sha256((datasets_file.parent / "clips.parquet").read_bytes()).hexdigest()
    removed = tuple(Removal(f"train/class 0/clip é {number}.mp4") for number in range(6))
    RemovalList(ListedSet("clips", "train", digest), (), removed, tmp_path / "list.csv").write()
    mixture = f"recipe.pretrain.data.mixture=[{{dataset: clips, exclude: {tmp_path / 'list.csv'}}}]"
    plan, registry = make_plan(*PRETRAINING, *SHORT, mixture)
    result = run(plan, Store(tmp_path / "runs"), registry, quiet())
    [stage] = plan.stages
    assert not result.failed
    assert result.records[stage.fingerprint].coverage == {"n": 12, "covered": 12}


def test_a_run_whose_driver_is_killed_and_then_a_worker_ends_with_the_same_bits(
    unbroken: tuple[Store, StudyResult],
    make_plan: MakePlan,
    experiment_file: Path,
    datasets_file: Path,
    tmp_path: Path,
) -> None:
    plan, registry = make_plan(*PRETRAINING, "execution.decode_workers=2")  # another number of them changes nothing
    store = Store(tmp_path / "runs")
    folder = store.path(stage_of(plan, "pretrain"))
    arguments = [str(experiment_file), str(datasets_file), str(store.root), *PRETRAINING]
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, *arguments], start_new_session=True)
    try:
        wait_for_step(folder / JOURNAL, 90)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    assert not (folder / "record.json").exists()
    assert (folder / "checkpoint" / "state.pt").exists()

    def kill() -> None:
        wait_until(lambda: len(read_starts(folder)) == 2, "it does not continue")
        wait_for_step(folder / JOURNAL, read_starts(folder)[1].step + 50)
        workers = [p for p in psutil.Process().children(recursive=True) if "RayTrainWorker" in " ".join(p.cmdline())]
        assert len(workers) == 1
        os.kill(workers[0].pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    result = run(plan, store, registry, quiet())
    killer.join()
    assert result.complete
    first, continued, replaced = read_starts(folder)
    assert first.step == 0
    assert continued.step >= 80
    assert replaced.step >= continued.step + 40
    assert_same_bits(store, plan, unbroken)


def test_a_failed_stage_is_reported_and_the_others_finish(
    make_plan: MakePlan, make_store: Callable[..., Store], datasets_file: Path, tmp_path: Path
) -> None:
    manifest = read_manifest(datasets_file.parent / "clips.parquet")
    broken = manifest.root.parent / "broken.parquet"
    write_manifest(type(manifest)(manifest.table, tmp_path / "gone", manifest.classes), broken)
    registry = Registry(datasets_file)
    registry.register("broken", DatasetEntry(manifest=str(broken)))
    probe = {"kind": "linear_probe", "dataset": "broken", "augment": {"kind": "none"}, "precision": "fp32"}
    plan, registry = make_plan("baselines=[]", f"recipe.evaluate.lost={json.dumps(probe)}")
    store = make_store("runs", "pretrain")
    result = run(plan, store, registry, quiet())
    lost = next(stage for stage in plan.stages if stage.kind == "probe" and "broken" in stage.name)
    assert set(result.failed) == {lost.fingerprint}
    assert len(result.records) == len(plan.stages) - 1
    assert "\n" not in result.failed[lost.fingerprint]
    assert result.failed[lost.fingerprint].startswith("no training video of broken can be read")
    assert (store.path(lost) / "failure.log").stat().st_size > 100


def test_a_full_disk_is_a_line_and_costs_nothing_that_was_done(
    make_plan: MakePlan, small_disk: Callable[[str], Path], tmp_path: Path
) -> None:
    # MLflow's database beside the store: on the small disk it could be the first to fill it, before a stage began.
    tracking = f"execution.tracking_uri=sqlite:///{tmp_path}/mlflow.db"
    plan, registry = make_plan(*PRETRAINING, *SHORT, tracking)
    store = Store(small_disk("60k"))
    result = run(plan, store, registry, quiet())
    (reason,) = result.failed.values()
    assert "No space left on device" in reason
    assert "\n" not in reason
    small_disk("50m")
    assert run(plan, store, registry, quiet()).complete
