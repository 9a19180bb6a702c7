"""Runs that are killed at random moments end as the unbroken run: same samples, same bits.

    python -m pytest -m long tests/ray/test_kill.py                     # twenty moments; VJEPA_EXP_KILL_SEED for others

Every run is the real command in a process of its own, with a Ray of its own; only its own children are killed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import psutil
import pytest
import torch
import yaml
from ray.cluster_utils import Cluster

from vjepa_exp.runtime.samples import SAMPLES
from vjepa_exp.track.journal import JOURNAL, read_journal
from vjepa_exp.track.starts import read_starts
from vjepa_models.keyed_rng import keyed_rng

pytestmark = [pytest.mark.long, pytest.mark.timeout(4 * 3600)]

MOMENTS = 20
SEED = int(os.environ.get("VJEPA_EXP_KILL_SEED", "0"))
VICTIMS = ("driver", "trainer", "node", "decoder", "ctrl_c")
NAMES = {"trainer": "RayTrainWorker", "decoder": "MapWorker", "node": "raylet/raylet"}
PATIENCE_S = 900.0
STEPS = 300
EXPERIMENT = {
    "name": "killed",
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
                "mixture": [{"dataset": "tiny_motion"}],
                "clip": {"num_frames": 4, "frame_step": 2, "resolution": 32},
            },
            "masks": [{"kind": "multi_block", "num_blocks": 2, "spatial_scale": [0.3, 0.3]}],
            "mask_group_size": 4,
            "optim": {"batch_size": 8, "iterations": STEPS, "warmup": 20, "clip_grad_after": 20},
            "precision": "fp32",
        },
        "evaluate": {
            "motion": {
                "kind": "linear_probe",
                "dataset": "tiny_motion",
                "augment": {"kind": "none"},
                "optim": {"batch_size": 16, "epochs": 3},
                "precision": "fp32",
            }
        },
    },
    "execution": {"device": "cpu", "threads": 1, "checkpoint_every": 20, "log_every": 1, "steps_per_block": 2},
}


@dataclass(frozen=True)
class Moment:
    """When somebody dies: some steps after the last death, or some seconds after the start of the process."""

    victim: str
    steps: int | None
    seconds: float


def moments(seed: int) -> Iterator[Moment]:
    """Victims in turn, at moments that are drawn: three of four while training, the others while it starts."""
    for i in count():
        starting, steps, seconds = keyed_rng(seed, "kill", i).random(3)
        victim = VICTIMS[i % len(VICTIMS)]
        if starting < 0.25:
            yield Moment(victim, None, 20 * seconds)
        else:
            yield Moment(victim, 1 + int(60 * steps), 0.2 * seconds)


@dataclass
class Study:
    """The study in a store of its own, done by one process after the other."""

    folder: Path
    sets: tuple[str, ...] = ()
    lives: int = 0
    seen: set[psutil.Process] = field(default_factory=set)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.spec.write_text(yaml.safe_dump(EXPERIMENT), encoding="utf-8")

    @property
    def spec(self) -> Path:
        return self.folder / "killed.yaml"

    def stage(self, kind: str) -> Path:
        """Folder of its one stage of a kind; one that is not there while it was not begun."""
        return next((self.folder / "runs").glob(f"{kind}-*"), self.folder / "nothing")

    @property
    def step(self) -> int:
        return max((int(row["step"]) for row in read_journal(self.stage("pretrain") / JOURNAL)), default=0)

    @property
    def output(self) -> str:
        return (self.folder / f"life-{self.lives}.log").read_text(encoding="utf-8", errors="replace")

    def start(self) -> None:
        """Begin, or go on with a command that finds what is there."""
        self.lives += 1
        resume = self.lives > 1 and not self.sets and (self.folder / "runs" / "reports").is_dir()
        what = ["resume"] if resume else ["run", str(self.spec), *(f"--set={one}" for one in self.sets)]
        with (self.folder / f"life-{self.lives}.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from vjepa_exp.cli import main; main()", *what, "--store", "runs"],
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_heed_ctrl_c,
            )

    def alive(self) -> bool:
        """Whether it works; notes its children."""
        assert self.process is not None
        if self.process.poll() is not None:
            return False
        try:
            self.seen.update(psutil.Process(self.process.pid).children(recursive=True))
        except psutil.NoSuchProcess:
            return False
        return True

    def find(self, victim: str) -> psutil.Process | None:
        """The process that is to die, None while it is not there."""
        assert self.process is not None
        if victim in ("driver", "ctrl_c"):
            return psutil.Process(self.process.pid)
        children = psutil.Process(self.process.pid).children(recursive=True)
        return next((one for one in children if _is(one, victim)), None)

    def end(self, returncode: int | None = None) -> None:
        """Wait for the end of the process."""
        assert self.process is not None
        deadline = time.monotonic() + PATIENCE_S
        while self.alive():
            assert time.monotonic() < deadline, f"it does not end:\n{self.output}"
            time.sleep(0.1)
        assert "Traceback" not in self.output, self.output
        assert returncode is None or self.process.returncode == returncode, self.output

    def take_data(self, other: Study) -> None:
        """Spare this study the making of its videos."""
        folder = other.stage("data")
        shutil.copytree(folder, self.folder / "runs" / folder.name)

    def close(self) -> list[psutil.Process]:
        """Wait for what is left of all lives; returns what does not go by itself, having ended it."""
        if self.process is not None and self.process.poll() is None:
            self.seen.update(psutil.Process(self.process.pid).children(recursive=True))
            self.process.kill()
            self.process.wait()
        # Where a number is that of a thread by now, waiting for it fails.
        there = [one for one in self.seen if one.is_running()]
        # Ray's agents notice after 65 s (measured) that their node is gone
        left: list[psutil.Process] = psutil.wait_procs(there, timeout=180)[1]
        for one in left:
            one.kill()
        return left


def _heed_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it


def _is(process: psutil.Process, victim: str) -> bool:
    try:
        return NAMES[victim] in " ".join(process.cmdline()[:1])
    except psutil.Error:
        return False


def strike(study: Study, moment: Moment) -> bool:
    """Wait for the moment and kill; whether it came before the run was over."""
    begun, step = time.monotonic(), study.step
    while study.alive():
        victim = study.find(moment.victim)
        ripe = time.monotonic() >= begun + moment.seconds if moment.steps is None else study.step >= step + moment.steps
        if victim is None or not ripe:
            assert time.monotonic() < begun + PATIENCE_S, f"{moment} does not come:\n{study.output}"
            time.sleep(0.05)
            continue
        if moment.steps is not None:
            time.sleep(moment.seconds)
        try:
            victim.send_signal(signal.SIGINT if moment.victim == "ctrl_c" else signal.SIGKILL)
        except psutil.NoSuchProcess:
            return False
        return True
    return False


def last_state(study: Study) -> dict[str, torch.Tensor]:
    """All tensors of the last checkpoint by name."""
    found: dict[str, torch.Tensor] = {}

    def visit(value: object, name: str) -> None:
        if isinstance(value, torch.Tensor):
            found[name] = value
        elif isinstance(value, dict):
            for key, inner in value.items():
                visit(inner, f"{name}.{key}")

    visit(torch.load(study.stage("pretrain") / "checkpoint" / "state.pt", weights_only=True)["state"], "state")
    return found


def samples(study: Study) -> bytes:
    return (study.stage("pretrain") / SAMPLES).read_bytes()


def losses(study: Study, kind: str) -> list[tuple[float, float]]:
    return [(row["step"], row["loss"]) for row in read_journal(study.stage(kind) / JOURNAL)]


def scores(study: Study) -> dict[str, float]:
    record = json.loads((study.stage("probe") / "record.json").read_text(encoding="utf-8"))
    return {name: value for name, value in record["metrics"].items() if name != "clips_per_s"}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The study, done in one go."""
    study = Study(tmp_path_factory.mktemp("kill") / "unbroken")
    study.start()
    try:
        study.end(returncode=0)
    finally:
        left = study.close()
    assert not left
    assert len(samples(study)) == 8 * STEPS
    assert len({samples(study)[i : i + 8] for i in range(0, 8 * STEPS, 8)}) == STEPS
    return study


def test_killed_at_random_moments_it_ends_with_the_same_bits(unbroken: Study, tmp_path: Path) -> None:
    drawn, struck, stopped = moments(SEED), Counter[str](), 0
    for number in count():
        if struck.total() >= MOMENTS:
            break
        study = Study(tmp_path / f"run-{number}")
        study.take_data(unbroken)
        try:
            stopped += suffer(study, drawn, struck)
            assert not (left := study.close()), left
        finally:
            study.close()
        assert samples(study) == samples(unbroken)
        mine, theirs = last_state(study), last_state(unbroken)
        assert mine.keys() == theirs.keys()
        assert [name for name in mine if not torch.equal(mine[name], theirs[name])] == []
        assert losses(study, "pretrain") == losses(unbroken, "pretrain")
        assert losses(study, "probe") == losses(unbroken, "probe")
        assert scores(study) == scores(unbroken)
        for start in read_starts(study.stage("pretrain"))[1:]:
            print(f"run {number}: resumed {start}")  # noqa: T201 (what a restart costs, with -s)
    assert set(struck) == set(VICTIMS)
    print(f"{dict(struck)}; {stopped} times the command ended and was given again")  # noqa: T201


def suffer(study: Study, drawn: Iterator[Moment], struck: Counter[str]) -> int:
    """Do a study under the blows of the moments; how many processes it took besides the first."""
    study.start()
    while True:
        moment = next(drawn)
        hit = strike(study, moment)
        struck[moment.victim] += hit
        print(f"{time.strftime('%H:%M:%S')} life {study.lives} step {study.step} {moment} {hit}", flush=True)  # noqa: T201
        if hit and moment.victim in ("trainer", "decoder"):
            continue
        study.end()
        assert study.process is not None
        if hit and moment.victim == "node":
            assert "Ray on this machine died" in study.output
        if study.process.returncode == 0:
            return study.lives - 1
        assert study.lives < 60, study.output
        study.start()


def test_other_workers_and_batches_continue_with_the_same_samples(unbroken: Study, tmp_path: Path) -> None:
    ways = [
        ("execution.workers=2",),
        ("execution.workers=4", "execution.micro_batch=1"),
        ("execution.micro_batch=8", "execution.decode_workers=3", "execution.steps_per_block=5"),
    ]
    study = Study(tmp_path / "changing")
    study.take_data(unbroken)
    for sets in ways:
        go_on(study, sets, steps=70)
    go_on(study, ("execution.workers=2", "execution.decode_workers=2"), steps=None)
    assert samples(study) == samples(unbroken)
    mine, theirs = last_state(study), last_state(unbroken)
    for name in mine:
        assert torch.allclose(mine[name], theirs[name], rtol=1e-3, atol=1e-5), name


def test_another_way_of_decoding_continues_with_the_same_bits(unbroken: Study, tmp_path: Path) -> None:
    study = Study(tmp_path / "decoding")
    study.take_data(unbroken)
    go_on(study, ("execution.decode_workers=3", "execution.steps_per_block=7"), steps=90)
    go_on(study, ("execution.reader=decord", "execution.micro_batch=4"), steps=90)
    go_on(study, (), steps=None)
    assert samples(study) == samples(unbroken)
    mine, theirs = last_state(study), last_state(unbroken)
    assert [name for name in mine if not torch.equal(mine[name], theirs[name])] == []


def go_on(study: Study, sets: tuple[str, ...], steps: int | None) -> None:
    """Continue in a given way for so many steps, or to the end."""
    study.sets = sets
    study.start()
    try:
        if steps is None:
            study.end(returncode=0)
        else:
            assert strike(study, Moment("driver", steps, 0.05))
            study.end()
    finally:
        left = study.close()
    assert not left


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Four nodes on this machine, three of them for the work."""
    nodes = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": 2 * 10**8, "include_dashboard": True},
    )
    try:
        for _ in range(3):
            nodes.add_node(num_cpus=2, object_store_memory=2 * 10**8)
        yield nodes
    finally:
        nodes.shutdown()


def test_a_node_that_is_lost_while_others_live_costs_no_sample(
    unbroken: Study, cluster: Cluster, tmp_path: Path
) -> None:
    study = Study(tmp_path / "nodes", ("execution.workers=2", f"execution.address={cluster.address}"))
    study.take_data(unbroken)
    study.start()
    try:
        while study.step < 50:
            assert study.alive(), study.output
            time.sleep(0.1)
        raylet = node_of_trainer(cluster)
        for one in [raylet, *raylet.children(recursive=True)]:  # a machine is lost as a whole
            one.kill()
        study.end(returncode=0)
    finally:
        study.close()
    assert len(read_starts(study.stage("pretrain"))) == 2
    assert samples(study) == samples(unbroken)
    mine, theirs = last_state(study), last_state(unbroken)
    for name in mine:
        assert torch.allclose(mine[name], theirs[name], rtol=1e-3, atol=1e-5), name


def node_of_trainer(cluster: Cluster) -> psutil.Process:
    """The process of a node, not the head, on which a training process runs."""
    for node in cluster.worker_nodes:
        raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
        if any(_is(one, "trainer") for one in raylet.children(recursive=True)):
            return raylet
    raise AssertionError("no node has a training process")
