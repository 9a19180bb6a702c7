"""Two studies of a collection as one run: what they share is done once, each has its report and its tree in MLflow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from vjepa_exp.graph.store import Store
from vjepa_exp.track.database import tracking_uri

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

COMMAND = [sys.executable, "-c", "from vjepa_exp.cli import main; main()"]


@pytest.fixture
def collection(experiment_file: Path, datasets_file: Path, tmp_path: Path) -> Path:
    """Two files that share their pretraining: an attentive probe and a linear one."""
    study = yaml.safe_load(experiment_file.read_text(encoding="utf-8"))
    study["baselines"] = []
    study["recipe"]["pretrain"]["optim"] |= {"iterations": 10, "warmup": 2, "clip_grad_after": 2}
    for name, kind in (("first", "attentive_probe"), ("second", "linear_probe")):
        study["recipe"]["evaluate"]["clips"]["kind"] = kind
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({**study, "name": name}), encoding="utf-8")
    both = {"name": "both", "experiments": ["first.yaml", "second.yaml"]}
    (tmp_path / "both.yaml").write_text(yaml.safe_dump(both), encoding="utf-8")
    return tmp_path / "both.yaml"


def call(folder: Path, *arguments: str) -> str:
    done = subprocess.run([*COMMAND, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return " ".join(done.stdout.split())


def test_a_collection_is_one_run(collection: Path, datasets_file: Path, tmp_path: Path) -> None:
    store = tmp_path / "runs"
    arguments = ["run", str(collection), "--store", str(store), "--datasets", str(datasets_file)]
    said = call(tmp_path, *arguments)
    assert "3 stages to do for 2 studies (1 pretrain, 2 probe)" in said
    assert said.count("starting Ray") == 1
    kinds = sorted(json.loads(path.read_text())["kind"] for path in store.glob("*/record.json"))
    assert kinds == ["pretrain", "probe", "probe"]
    for name in ("first", "second"):
        assert (store / "reports" / name / "report.html").is_file()
    page = (store / "reports" / "both-paper" / "report.html").read_text(encoding="utf-8")
    assert "3 of 3 stages are done" in page
    assert '<a href="../first/report.html">' in page
    assert "nothing to do: 3 stages are in the store" in call(tmp_path, "resume", "--store", str(store))

    client = MlflowClient(tracking_uri(Store(store), None))
    [experiment] = [one for one in client.search_experiments() if one.name == "vjepa-exp"]
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    assert all(run.info.status == "FINISHED" for run in runs)
    studies = [run for run in runs if run.data.tags.get("kind") == "study"]
    assert sorted(run.data.params["experiment"] for run in studies) == ["first", "second"]
    for run in studies:
        below = {run.info.run_id}
        for _ in range(2):  # study > variant > stage
            below |= {one.info.run_id for one in runs if one.data.tags.get("mlflow.parentRunId") in below}
        assert sorted(one.data.tags["kind"] for one in runs if one.info.run_id in below) == [
            "pretrain",
            "probe",
            "study",
            "variant",
        ]
