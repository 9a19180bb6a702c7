"""Runs that a cluster does by itself: the real commands against a real Ray with its dashboard, on this machine.

python -m pytest -m long tests/ray/test_jobs.py -s
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from vjepa_exp.graph.store import Store
from vjepa_exp.track.journal import JOURNAL, read_journal
from vjepa_exp.track.starts import read_starts

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]

PATIENCE_S = 900.0
STEPS = 4000
LONG = [f"--set=recipe.pretrain.optim.iterations={STEPS}", "--set=execution.checkpoint_every=100"]
CLI = [sys.executable, "-c", "from vjepa_exp.cli import main; main()"]


@dataclass
class Cluster:
    """A Ray of its own.

    Attributes:
        address: of its dashboard.
        token: that it asks for.
        process: that holds it.
        folder: for its files; a socket's path is short.
    """

    address: str
    token: str
    process: subprocess.Popen[bytes]
    folder: Path

    def call(self, *arguments: str, token: str | None = None) -> subprocess.CompletedProcess[str]:
        """One command of ours against it, to its end."""
        return subprocess.run(
            [*CLI, "cluster", *arguments],
            env=self.environment(token),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )

    def environment(self, token: str | None = None) -> dict[str, str]:
        """What a user sets."""
        mine = {"RAY_API_SERVER_ADDRESS": self.address, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token or self.token}
        return {**os.environ, **mine, "COLUMNS": "250"}

    def drivers(self, job: str) -> list[psutil.Process]:
        """Processes that run a job's spec."""
        found = []
        for one in psutil.Process(self.process.pid).children(recursive=True):
            with suppress(psutil.Error):
                if f"/specs/{job}/" in " ".join(one.cmdline()):
                    found.append(one)
        return found


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head that has our dependencies; our code it has only from a checkout that no job uses."""
    names = ("port", "dashboard-port", "ray-client-server-port", "dashboard-agent-listen-port", "metrics-export-port")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "RAY_ADDRESS")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    token = "a" * 64
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    with TemporaryDirectory(prefix="jobs-", dir="/tmp") as folder:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=8"]
        options = [f"--{name}={port}" for name, port in ports.items()]
        options += ["--node-ip-address=127.0.0.1", "--object-store-memory=300000000", f"--temp-dir={folder}/ray"]
        log = Path(folder) / "start.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, *options],
                env=environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_heed_ctrl_c,
            )
        running = Cluster(f"http://127.0.0.1:{ports['dashboard-port']}", token, process, Path(folder))
        try:
            wait_for(lambda: process.poll() is not None or "Ray runtime started" in log.read_text(), "Ray starts")
            assert process.poll() is None, log.read_text()
            wait_for(lambda: running.call("status").returncode == 0, "its dashboard answers", alive=process)
            yield running
        finally:
            end(process)


def _heed_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its descendants."""
    with suppress(psutil.NoSuchProcess):
        children = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()
        for one in psutil.wait_procs(children, timeout=15)[1]:
            one.kill()


def wait_for(true: Callable[[], object], what: str, alive: subprocess.Popen[bytes] | None = None) -> None:
    patience = time.monotonic() + PATIENCE_S
    while not true():
        assert alive is None or alive.poll() is None, what
        assert time.monotonic() < patience, what
        time.sleep(0.5)


def test_a_run_outlives_its_terminal_stops_when_told_to_and_goes_on_when_submitted_again(
    cluster: Cluster, experiment_file: Path, datasets_file: Path, tmp_path: Path
) -> None:
    store = tmp_path / "runs"
    ask = ["submit", str(experiment_file), "--store", str(store), "--datasets", str(datasets_file), *LONG]
    first = cluster.call(*ask)
    assert first.returncode == 0, first.stderr
    job = first.stdout.split()[1]
    assert job.startswith("mini-paper-")

    def steps() -> int:
        folder = next(store.glob("pretrain-*"), tmp_path / "nothing")
        return max((int(row["step"]) for row in read_journal(folder / JOURNAL)), default=0)

    with (tmp_path / "terminal.log").open("wb") as output:
        terminal = subprocess.Popen(
            [*CLI, "cluster", "logs", job, "--follow"],
            env=cluster.environment(),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_for(lambda: steps() >= 10, "training begins", alive=terminal)
    finally:
        os.killpg(terminal.pid, signal.SIGKILL)
        terminal.wait()
    watched = (tmp_path / "terminal.log").read_text()
    assert "plan: " in watched, watched
    assert cluster.token not in watched
    at = steps()
    wait_for(lambda: steps() > at, "it goes on without the terminal")

    again = cluster.call(*ask, "--set", "execution.log_every=1")
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith(f"already running: {job}")
    status = cluster.call("status", job)
    assert [job, "mini-paper", "running"] == status.stdout.splitlines()[1].split()[:3]
    assert "stages done, 1 running" in status.stdout

    wait_for(lambda: steps() >= 150, "there is a checkpoint")
    assert len(cluster.drivers(job)) > 0
    stopped = cluster.call("stop", job)
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert stopped.stdout.startswith(f"{job}: stopped; what is done is kept")
    assert cluster.drivers(job) == []
    assert Store(store).held_since() is None
    assert "stopped; what is done is kept" in cluster.call("logs", job).stdout, "it ended as by Ctrl-C"
    assert steps() < STEPS
    assert "has ended before: stopped" in cluster.call("stop", job).stdout

    second = cluster.call(*ask)
    assert f"submitted: {job}-2 " in second.stdout, second.stdout + second.stderr
    followed = cluster.call("logs", f"{job}-2", "--follow")
    assert followed.returncode == 0, followed.stdout
    assert "report: " in followed.stdout
    assert f"{job}-2" in cluster.call("status").stdout
    [pretraining] = store.glob("pretrain-*")
    starts = read_starts(pretraining)
    assert [start.step > 0 for start in starts] == [False, True], "the second start continues the first one"
    record = json.loads((pretraining / "record.json").read_text())
    assert f"code: vjepa_exp-{record['code']['version']}-py3" in second.stdout, "the code is that of the wheel"


def test_a_run_that_cannot_begin_says_so_in_its_log(cluster: Cluster, experiment_file: Path, tmp_path: Path) -> None:
    done = cluster.call("submit", str(experiment_file), "--store", str(tmp_path / "runs"), "--name", "lost")
    job = done.stdout.split()[1]
    followed = cluster.call("logs", job, "--follow")
    assert followed.returncode == 1
    assert "error: data set 'clips' is not registered" in followed.stdout
    assert "Traceback" not in followed.stdout + followed.stderr
    assert " failed " in cluster.call("status", job).stdout


@pytest.mark.parametrize("what", [["status"], ["logs", "x"], ["stop", "x"]])
def test_who_has_no_token_is_told_so(cluster: Cluster, what: list[str]) -> None:
    refused = cluster.call(*what, token="b" * 64)
    assert refused.returncode == 2
    [line] = refused.stderr.splitlines()
    assert "does not know who asks: set RAY_AUTH_MODE=token" in line
    assert "b" * 64 not in line


def test_a_job_that_there_is_not_is_one_line(cluster: Cluster) -> None:
    refused = cluster.call("logs", "no-such-job")
    assert refused.returncode == 2
    [line] = refused.stderr.splitlines()
    assert line.startswith("error: no job 'no-such-job' on the cluster")
