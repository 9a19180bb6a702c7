"""A study in seconds on real files: a few H.264 clips in class folders, a network of a few thousand weights."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest
import yaml
from rich.console import Console

from vjepa_exp.data.index import index
from vjepa_exp.data.manifest import write_manifest
from vjepa_exp.graph.plan import Plan, build_plan
from vjepa_exp.graph.result import StudyResult
from vjepa_exp.graph.store import Store
from vjepa_exp.runtime.environment import prepare
from vjepa_exp.runtime.runner import run
from vjepa_exp.spec.datasets import DatasetEntry, Registry
from vjepa_exp.spec.load import PAPER, read_experiment, resolve
from vjepa_exp.track.starts import read_starts

prepare(None, verbose=False)  # before a test imports Ray

PROBE = {
    "kind": "attentive_probe",
    "dataset": "clips",
    "augment": {"kind": "none"},
    "optim": {"batch_size": 8, "epochs": 3},
    "precision": "fp32",
}
EXPERIMENT = {
    "name": "mini",
    "recipe": {
        "seed": 3,
        "model": {
            "arch": "custom",
            "embed_dim": 24,
            "depth": 1,
            "num_heads": 2,
            "mlp_ratio": 2.0,
            "patch_size": 8,
            "predictor": {"depth": 1, "embed_dim": 12, "num_heads": 2},
        },
        "pretrain": {
            "data": {
                "mixture": [{"dataset": "clips"}],
                "clip": {"num_frames": 4, "frame_step": 2, "resolution": 32},
            },
            "masks": [{"kind": "multi_block", "num_blocks": 2, "spatial_scale": [0.3, 0.3]}],
            "mask_group_size": 4,
            "optim": {"batch_size": 8, "iterations": 300, "warmup": 20, "clip_grad_after": 20},
            "precision": "fp32",
        },
        "evaluate": {"clips": PROBE},
    },
    "baselines": ["random_init"],
    # One stage at a time: the next one begins at once, in the same workers, and the other core is the other tests'.
    "execution": {"device": "cpu", "threads": 1, "concurrent_trials": 1, "checkpoint_every": 40, "log_every": 5},
}


@pytest.fixture(scope="session")
def datasets_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`datasets.yaml` with the set `clips`: three classes, 18 clips to train on and 9 to test."""
    root = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3)):
        for label in range(3):
            folder = root / "videos" / split / f"class {label}"
            folder.mkdir(parents=True)
            for number in range(count):
                _write_clip(folder / f"clip é {number}.mp4", label, rng)
    write_manifest(index(root / "videos"), root / "clips.parquet")
    registry = Registry(root / "datasets.yaml")
    registry.register("clips", DatasetEntry(manifest="clips.parquet"))
    return root / "datasets.yaml"


def _write_clip(path: Path, label: int, rng: np.random.Generator) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(10):
            image = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            image[:, :, label] //= 4
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="session")
def experiment_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study as a file."""
    path = tmp_path_factory.mktemp("experiment") / "mini.yaml"
    path.write_text(yaml.safe_dump(EXPERIMENT), encoding="utf-8")
    return path


MakePlan = Callable[..., tuple[Plan, Registry]]


@pytest.fixture(scope="session")
def make_plan(experiment_file: Path, datasets_file: Path) -> MakePlan:
    """Plans the study with `--set` options."""

    def plan(*sets: str) -> tuple[Plan, Registry]:
        registry = Registry(datasets_file)
        return build_plan(resolve(read_experiment(experiment_file), PAPER, sets), registry), registry

    return plan


@pytest.fixture(scope="session")
def unbroken(
    tmp_path_factory: pytest.TempPathFactory, make_plan: MakePlan, ray_session: None
) -> tuple[Store, StudyResult]:
    """The study, done in one go."""
    plan, registry = make_plan()
    store = Store(tmp_path_factory.mktemp("unbroken") / "runs")
    return store, run(plan, store, registry, Console(quiet=True))


@pytest.fixture
def make_store(unbroken: tuple[Store, StudyResult], tmp_path: Path) -> Callable[..., Store]:
    """Stores by their names in which those stages of the study are done that are of some kinds."""
    done, result = unbroken

    def make(name: str, *kinds: str) -> Store:
        store = Store(tmp_path / name)
        for stage in result.plan.stages:
            if stage.kind in kinds:
                shutil.copytree(done.path(stage), store.path(stage))
        return store

    return make


@pytest.fixture
def losing() -> Callable[..., Any]:
    """Sends the training process of a stage signals, each after another start and when something is so there."""

    @contextmanager
    def losing(folder: Path, *losses: tuple[Callable[[Path], bool], signal.Signals]) -> Iterator[None]:
        def lose() -> None:
            for number, (so, how) in enumerate(losses):
                while len(read_starts(folder)) <= number or not so(folder):
                    time.sleep(0.01)
                [worker] = [p for p in psutil.Process().children(recursive=True) if "RayTrainWorker" in p.cmdline()[0]]
                worker.send_signal(how)

        thread = threading.Thread(target=lose, daemon=True)
        thread.start()
        yield
        thread.join(timeout=60)
        assert not thread.is_alive(), "the run was over before"

    return losing
