"""Nodes that come and go: notice, loss, a driver that is lost, and at the end the samples of the unbroken run.

python -m pytest -m slow tests/ray/test_nodes.py            # SIGTERM to a training process
python -m pytest -m long tests/ray/test_nodes.py -s         # fake nodes of Ray's own autoscaler, killed as a whole
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import psutil
import pytest
import torch
from rich.console import Console

from vjepa_exp.graph.plan import Plan
from vjepa_exp.graph.result import StudyResult
from vjepa_exp.graph.stage import Stage
from vjepa_exp.graph.store import Store
from vjepa_exp.runtime.runner import run
from vjepa_exp.runtime.samples import SAMPLES
from vjepa_exp.spec.datasets import Registry
from vjepa_exp.track.journal import JOURNAL, read_journal
from vjepa_exp.track.starts import read_starts

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(3600)]

MakePlan = Callable[..., tuple[Plan, Registry]]
ALONE = ("recipe.evaluate={}", "baselines=[]")
PATIENCE_S = 1800.0


def stage_of(plan: Plan) -> Stage:
    return next(stage for stage in plan.stages if stage.kind == "pretrain")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state = torch.load(folder / "checkpoint" / "state.pt", weights_only=True)["state"]
    return {f"{part}.{name}": value for part in ("encoder", "target_encoder") for name, value in state[part].items()}


def wait_for_step(folder: Path, step: int, alive: Callable[[], bool] = lambda: True) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not any(row["step"] >= step for row in read_journal(folder / JOURNAL)):
        assert alive(), "the run has ended"
        assert time.monotonic() < deadline, f"step {step} was not reached"
        time.sleep(0.02)


@pytest.mark.slow
def test_a_training_process_that_is_asked_to_leave_loses_no_step(
    unbroken: tuple[Store, StudyResult], make_plan: MakePlan, tmp_path: Path
) -> None:
    # nothing is kept but on notice, and a failure would be the end
    plan, registry = make_plan(*ALONE, "execution.checkpoint_every=100000", "execution.max_failures=0")
    store = Store(tmp_path / "runs")
    folder = store.path(stage_of(plan))

    def ask() -> None:
        wait_for_step(folder, 60)
        workers = [one for one in psutil.Process().children(recursive=True) if "RayTrainWorker" in one.cmdline()[0]]
        assert len(workers) == 1
        workers[0].send_signal(signal.SIGTERM)

    asker = threading.Thread(target=ask)
    asker.start()
    result = run(plan, store, registry, Console(quiet=True))
    asker.join()
    assert result.complete, result.failed
    first, second = read_starts(folder)
    assert first.step == 0
    assert second.step >= 60
    assert second.repeated == 0
    assert 0 < second.lost < second.time - first.time
    theirs = unbroken[0].path(stage_of(unbroken[1].plan))
    assert (folder / SAMPLES).read_bytes() == (theirs / SAMPLES).read_bytes()
    assert all(torch.equal(value, weights(theirs)[name]) for name, value in weights(folder).items())


@dataclass
class Command:
    """The real command on a cluster, and what it prints."""

    folder: Path
    environment: dict[str, str]
    lives: int = 0
    process: subprocess.Popen[bytes] | None = None
    children: set[psutil.Process] = field(default_factory=set)

    def start(self, *arguments: str) -> None:
        self.lives += 1
        command = [sys.executable, "-c", "from vjepa_exp.cli import main; main()", *arguments]
        with (self.folder / f"life-{self.lives}.log").open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def alive(self) -> bool:
        assert self.process is not None
        return self.process.poll() is None

    @property
    def output(self) -> str:
        return (self.folder / f"life-{self.lives}.log").read_text(encoding="utf-8", errors="replace")


@pytest.fixture(scope="module")
def fakes(repo_root: Path) -> ModuleType:
    sys.path.append(str(repo_root / "benchmarks"))
    import fake_cluster

    return fake_cluster


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    one = Command(tmp_path, dict(os.environ))
    yield one
    if one.process is not None and one.alive():
        one.process.kill()
        one.process.wait()


@pytest.mark.long
def test_nodes_and_a_driver_that_are_lost_cost_no_sample(
    unbroken: tuple[Store, StudyResult],
    make_plan: MakePlan,
    experiment_file: Path,
    datasets_file: Path,
    fakes: ModuleType,
    command: Command,
    tmp_path: Path,
) -> None:
    store = Store(tmp_path / "runs")
    folder = store.path(stage_of(make_plan(*ALONE)[0]))
    with fakes.fake_cluster(tmp_path / "cluster", max_nodes=2, node_cpus=2) as cluster:
        command.environment = cluster.environment
        where = [f"execution.address={cluster.address}", "execution.worker_resources={GPU: 1.0}"]
        elastic = [
            "execution.workers=2",
            "execution.min_workers=1",
            "execution.wait_s=45",
            "execution.decode_workers=2",
        ]
        sets = [f"--set={one}" for one in (*ALONE, *where, *elastic, "execution.max_failures=0")]
        options = ["--store", str(store.root), "--datasets", str(datasets_file), "--cluster", str(cluster.spec)]
        assert cluster.nodes() == []
        command.start("run", str(experiment_file), *options, *sets)
        assert command.process is not None
        wait_for_step(folder, 60, command.alive)
        assert cluster.nodes()  # they came for it

        command.process.kill()  # the driver is lost
        command.process.wait()
        command.start("resume", "--store", str(store.root))
        wait_for_step(folder, 120, command.alive)

        lost = cluster.node_of("RayTrainWorker")  # a machine is lost as a whole
        for one in [lost, *lost.children(recursive=True)]:
            one.kill()
        wait_for_step(folder, 300, command.alive)
        assert command.process.wait(PATIENCE_S) == 0, command.output
    starts = read_starts(folder)
    for start in starts:
        print(f"start {start}")  # noqa: T201 (what a loss costs, with -s)
    print("\n".join(line for line in command.output.splitlines() if "wait" in line))  # noqa: T201
    assert [start.lost > 0 for start in starts] == [False, False, True]
    assert all(start.workers in (1, 2) for start in starts)
    assert "s lost" in command.output
    theirs = unbroken[0].path(stage_of(unbroken[1].plan))
    assert (folder / SAMPLES).read_bytes() == (theirs / SAMPLES).read_bytes()
    for name, value in weights(folder).items():
        assert torch.allclose(value, weights(theirs)[name], rtol=1e-3, atol=1e-5), name
