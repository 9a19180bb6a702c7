"""Bad files in a real run: skipped by a rule, counted by reason, left out of a score, the same after a kill."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from mlflow import MlflowClient

import vjepa_exp.data.source as source_module
from vjepa_exp.cli import main
from vjepa_exp.data.index import index
from vjepa_exp.data.manifest import Manifest, read_entries, write_manifest
from vjepa_exp.data.readers import DecodeError, Frames, FramesTHWC, Reader, decode
from vjepa_exp.data.source import PretrainSource
from vjepa_exp.evals.coverage import Coverage, Unreadable
from vjepa_exp.graph.store import Store
from vjepa_exp.runtime.quarantine import read_quarantine
from vjepa_exp.runtime.samples import SAMPLES, digest
from vjepa_exp.spec.datasets import DatasetEntry, Registry
from vjepa_exp.spec.load import PAPER, read_experiment, resolve
from vjepa_exp.track.database import EXPERIMENT, tracking_uri
from vjepa_exp.track.journal import JOURNAL, read_journal

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

STEPS, BATCH = 24, 8
ODD = ("decord_corrupted.mp4", "mediabunny_no-initial-keyframe.ts", "small_Mpeg4.mp4", "datumaro_video.avi")
DEADLY = "deadly.mp4"
READER = """
import ctypes

def decode(path, frames):
    ctypes.string_at(0)
"""
SITE = """
import vjepa_exp.data
vjepa_exp.data.__path__.append({folder!r})
"""
COMMAND = [sys.executable, "-c", "from vjepa_exp.cli import main; main()"]


@pytest.fixture(scope="module")
def mixed(datasets_file: Path, shared_odd: Path | None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`datasets.yaml` with the set `mixed`: good clips, bad ones that the index knows and bad ones that it does not."""
    home = tmp_path_factory.mktemp("mixed")
    root = home / "videos"
    shutil.copytree(datasets_file.parent / "videos", root)
    for split, first in (("train", 4), ("val", 2)):
        folder = root / split / "class 0"
        good = (folder / "clip é 0.mp4").read_bytes()
        (folder / "truncated.mp4").write_bytes(good[: len(good) // 2])
        (folder / "empty.mp4").write_bytes(b"")
        (folder / "text.mp4").write_text("no video " * 1000, encoding="utf-8")
        for name in ("later.mp4", DEADLY):
            (folder / name).write_bytes(good)
        for name in ODD[:first] if shared_odd else ():
            shutil.copy(shared_odd / name, folder / name)
    manifest = index(root)
    for split in ("train", "val"):
        (root / split / "class 0" / "later.mp4").write_text("damaged", encoding="utf-8")
    readers = [
        "deadly" if path.endswith(DEADLY) else reader
        for path, reader in zip(manifest.table["path"].to_pylist(), manifest.table["readers"].to_pylist(), strict=True)
    ]
    column = manifest.table.schema.get_field_index("readers")
    table = manifest.table.set_column(column, "readers", pa.array(readers).dictionary_encode())
    columns = {name: table[name] for name in table.column_names}
    write_manifest(Manifest.from_columns(columns, manifest.root, manifest.classes), home / "mixed.parquet")
    Registry(home / "datasets.yaml").register("mixed", DatasetEntry(manifest="mixed.parquet"))
    return home / "datasets.yaml"


@pytest.fixture(scope="module")
def shared_odd(repo_root: Path) -> Path | None:
    """Files that other projects keep because decoders fail on them; None where they are not there."""
    folder = Path(os.environ.get("VJEPA_EXP_SHARED", repo_root.parent / "shared")) / "videos" / "odd"
    return folder if folder.is_dir() else None


@pytest.fixture
def spec(experiment_file: Path, tmp_path: Path) -> Path:
    """The mini study on the set `mixed`."""
    study = yaml.safe_load(experiment_file.read_text(encoding="utf-8"))
    study["recipe"]["pretrain"]["data"]["mixture"] = [{"dataset": "mixed"}]
    study["recipe"]["pretrain"]["optim"] |= {"iterations": STEPS, "warmup": 4, "clip_grad_after": 4}
    study["recipe"]["evaluate"]["clips"]["dataset"] = "mixed"
    study["baselines"] = []
    study["execution"] |= {"checkpoint_every": 6, "log_every": 1, "steps_per_block": 1, "max_unreadable": 0.6}
    path = tmp_path / "mini.yaml"
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    return path


def test_a_run_over_bad_files_is_the_same_after_a_kill_and_says_what_it_left_out(
    spec: Path, mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command, with a reader that crashes its process on one file of each split, killed half-way and resumed."""
    site = tmp_path / "site"
    (site / "readers").mkdir(parents=True)
    (site / "readers" / "reader_deadly.py").write_text(READER, encoding="utf-8")
    (site / "sitecustomize.py").write_text(SITE.format(folder=str(site / "readers")), encoding="utf-8")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    store = Store(tmp_path / "runs")
    begin = [*COMMAND, "run", str(spec), "--datasets", str(mixed), "--store", str(store.root)]
    first = subprocess.Popen(begin, env=environment, start_new_session=True)
    try:
        wait_for_step(store, STEPS // 2)
    finally:
        first.kill()
        first.wait()
    resumed = subprocess.run([*COMMAND, "resume", "--store", str(store.root)], env=environment, check=False)
    assert resumed.returncode == 0

    samples, skipped = expected(spec, mixed, monkeypatch)
    pretrain = next(store.root.glob("pretrain-*"))
    assert np.fromfile(pretrain / SAMPLES, "<u8").tolist() == samples
    assert tuple(read_quarantine(pretrain)) == skipped.unreadable
    kinds = Counter(skipped.by_reason()["mixed"])
    assert kinds["crash"] == 1
    assert kinds["open"] >= 3  # empty, text and damaged later
    assert kinds["corrupt"] + kinds["open"] + kinds["no_video"] >= 4
    assert record(pretrain)["unreadable"] == {"mixed": dict(kinds)}
    assert (
        metrics_in_mlflow(store, pretrain.name).items()
        >= {
            "unreadable": kinds.total(),
            **{f"unreadable.mixed.{kind}": count for kind, count in kinds.items()},
        }.items()
    )

    probe = next(store.root.glob("probe-*"))
    coverage = record(probe)["coverage"]
    missed = [one.path for one in read_quarantine(probe)]
    assert len(missed) == len(set(missed))
    assert sum("/val/" in path for path in missed) == coverage["n"] - coverage["covered"] >= 5
    assert sum("/train/" in path for path in missed) == coverage["train_n"] - coverage["train_covered"] >= 5
    assert record(probe)["metrics"]["n"] == coverage["covered"]
    for name in ("report.md", "report.html"):
        text = next(store.root.glob(f"reports/*/{name}")).read_text(encoding="utf-8")
        assert "Videos that could not be read" in text
        assert "crash" in text
        assert "Restarts" in text


@pytest.mark.usefixtures("ray_session")
def test_too_many_bad_files_stop_the_stage_with_one_line(
    spec: Path, mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "runs"
    options = ["--datasets", str(mixed), "--store", str(store), "--set", "execution.max_unreadable=0.02"]
    with pytest.raises(SystemExit) as exit_code:
        main(["run", str(spec), *options])
    assert exit_code.value.code == 1
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if line.startswith("failed: ")]
    assert "videos cannot be read (execution.max_unreadable allows 2%), first " in line
    assert "Traceback" not in out
    pretrain = next(store.glob("pretrain-*"))
    assert f"all are listed in {pretrain / 'quarantine.parquet'}" in line
    assert {one.dataset for one in read_quarantine(pretrain)} == {"mixed"}
    assert not (pretrain / "record.json").exists()


def wait_for_step(store: Store, step: int) -> None:
    deadline = time.monotonic() + 600
    while not any(row["step"] >= step for f in store.root.glob(f"pretrain-*/{JOURNAL}") for row in read_journal(f)):
        assert time.monotonic() < deadline, f"step {step} was not reached"
        time.sleep(0.05)


def expected(spec: Path, mixed: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[int], Coverage]:
    """Digests of all steps and what is skipped, from the source alone: no Ray, no crash, no kill."""

    def reading(path: str, frames: Frames, reader: Reader) -> FramesTHWC:
        if path.endswith(DEADLY):
            raise DecodeError("crash", path, "crashed the decoder")
        return decode(path, frames, reader)

    monkeypatch.setattr(source_module, "decode", reading)
    recipe = resolve(read_experiment(spec), PAPER).experiment.recipe
    source = PretrainSource(
        [(read_entries(Registry(mixed).manifest("mixed"), "train"), None)], recipe.pretrain.data, recipe.seed
    )
    batches = [source.load(np.arange(step * BATCH, (step + 1) * BATCH)) for step in range(STEPS)]
    found = [one for batch in batches for text in batch["skipped"].tolist() if text for one in json.loads(text)]
    skipped = [Unreadable(**one) for one in [*source.unreadable, *found]]
    return [int(digest(batch)) for batch in batches], Coverage.of(source.num_videos, skipped)


def record(folder: Path) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    return found


def metrics_in_mlflow(store: Store, stage: str) -> dict[str, float]:
    client = MlflowClient(tracking_uri(store, None))
    experiment = client.get_experiment_by_name(EXPERIMENT)
    (run,) = client.search_runs([experiment.experiment_id], f"tags.stage = '{stage}'")
    return run.data.metrics
