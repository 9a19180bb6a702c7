"""Studies whose stages are done by writing their folders, and MLflow servers as processes of their own."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from vjepa_exp.graph.plan import Cell, Plan, build_plan
from vjepa_exp.graph.stage import Stage
from vjepa_exp.graph.store import Record, Store
from vjepa_exp.spec.datasets import Registry
from vjepa_exp.spec.load import PAPER, read_experiment, resolve
from vjepa_exp.track.database import EXPERIMENT, tracking_uri
from vjepa_exp.track.journal import JOURNAL, Journal
from vjepa_exp.track.tracker import Tracker

TWO_RATES = {
    "name": "study",
    "paper": {"table": 4},
    "recipe": {
        "pretrain": {"data": {"mixture": [{"dataset": "tiny_motion"}]}, "optim": {"iterations": 20, "warmup": 2}},
        "evaluate": {"motion": {"kind": "linear_probe", "dataset": "tiny_motion"}},
    },
    "vary": {"axes": {"pretrain.optim.lr": {"low": 1.0e-4, "high": 1.0e-3}}},
}
SERVER_START_S = 120
WEIGHTS = {"pretrain": "checkpoint/state.pt", "probe": "probe.pt"}


@dataclass
class Study:
    """A study in a store."""

    plan: Plan
    store: Store

    @property
    def pretraining(self) -> Stage:
        """The first one of the plan."""
        return next(stage for stage in self.plan.stages if stage.kind == "pretrain")

    def tracker(self, uri: str | None = None) -> Tracker:
        """What a new process knows of the study."""
        return Tracker(self.plan, self.store, uri)

    def begin(self, steps: int) -> None:
        """The first pretraining as a run leaves it after some steps."""
        journal = Journal(self.store.begin(self.pretraining) / JOURNAL)
        for step in range(1, steps + 1):
            journal.write(step, {"loss": 1 / step})
        journal.close()

    def finish(self, score: Callable[[Cell], float] = lambda cell: 50.0, **extra: Any) -> dict[str, Record]:
        """All stages done, each begun a minute after the one before and done after ten seconds."""
        return {
            stage.fingerprint: self.done(stage, minute, score, extra) for minute, stage in enumerate(self.plan.stages)
        }

    def done(self, stage: Stage, minute: int, score: Callable[[Cell], float], extra: dict[str, Any]) -> Record:
        """One stage as a run leaves it."""
        folder = self.store.begin(stage)
        cell = next((cell for cell in self.plan.cells if cell.stage.fingerprint == stage.fingerprint), None)
        metrics = {"top1": score(cell)} if cell else {"loss": 0.5}
        files = [WEIGHTS[stage.kind]] if stage.kind in WEIGHTS else []
        for name in files:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text("weights")
        times = {"started": f"2026-01-01T00:{minute:02}:00+00:00", "seconds": 10.0}
        return self.store.commit(stage, metrics, files, times | extra)

    def client(self, uri: str | None = None) -> MlflowClient:
        """A client of the server that the study is told to."""
        return MlflowClient(tracking_uri(self.store, uri))

    def runs(self, uri: str | None = None) -> dict[str, Run]:
        """MLflow's runs, those of stages by their ids, the others by their names."""
        client = self.client(uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id])
        assert len({run.info.run_name for run in runs}) == len(runs), "names tell the runs apart"
        return {run.data.tags.get("stage", run.info.run_name): run for run in runs}

    def assert_whole(self, uri: str | None = None) -> None:
        """MLflow holds everything that the finished study has to say, and nothing twice."""
        runs, client = self.runs(uri), self.client(uri)
        assert len(runs) == 1 + len(self.plan.variants) + len(self.plan.stages)
        assert {run.info.status for run in runs.values()} == {"FINISHED"}
        models = client.search_logged_models([runs[self.pretraining.id].info.experiment_id])
        trained = {stage.id for stage in self.plan.stages if stage.kind != "data"}
        assert sorted(model.tags["stage"] for model in models) == sorted(trained)
        assert {str(model.status) for model in models} == {"READY"}
        for stage_id in trained:
            run = runs[stage_id]
            assert [model.model_id for model in run.outputs.model_outputs] == [
                model.model_id for model in models if model.tags["stage"] == stage_id
            ]
            assert {one.dataset.name.rpartition("/")[2] for one in run.inputs.dataset_inputs} >= {"train"}
            assert {file.path for file in client.list_artifacts(run.info.run_id)} >= {"recipe.yaml", "record.json"}
            assert [m.value for m in client.get_metric_history(run.info.run_id, "final.top1")] in ([], [50.0])
        for variant in self.plan.variants:
            params = runs[f"{variant.label} (seed {variant.seed})"].data.params
            assert params["vary.pretrain.optim.lr"] == str(variant.recipe.pretrain.optim.lr)
        study = next(run for run in runs.values() if run.data.tags["kind"] == "study")
        assert study.data.tags["compare"].partition("#")[2].startswith("/compare-runs?runs=")
        assert [file.path for file in client.list_artifacts(study.info.run_id)] == ["experiment.yaml"]
        (version,) = client.search_model_versions("name = 'study-paper'")
        assert client.get_model_version_by_alias("study-paper", "best").version == version.version


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., Study]:
    """Studies like `TWO_RATES` in one store, with other blocks at the top of the file."""

    def make(**blocks: Any) -> Study:
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump(TWO_RATES | blocks, sort_keys=False), encoding="utf-8")
        plan = build_plan(resolve(read_experiment(path), PAPER), Registry(tmp_path / "datasets.yaml"))
        return Study(plan, Store(tmp_path / "runs"))

    return make


@pytest.fixture
def study(make_study: Callable[..., Study]) -> Study:
    """A study of two variants in an empty store."""
    return make_study()


class Server:
    """`mlflow server` as a process of its own; it can be killed and started again on the same port and store.

    Args:
        folder: for its log and the artifacts that clients send through it.
        backend: URI of its database.
    """

    def __init__(self, folder: Path, backend: str) -> None:
        self._folder, self._backend, self.port = folder, backend, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it answers."""
        self._folder.mkdir(exist_ok=True)
        where = ["--backend-store-uri", self._backend, "--artifacts-destination", str(self._folder / "artifacts")]
        address = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        log = self._folder / "server.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *where, *address],
                stdout=output,
                stderr=output,
                env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                start_new_session=True,
            )
        patience = time.monotonic() + SERVER_START_S
        while not self._answers():
            assert self._process.poll() is None, log.read_text()
            assert time.monotonic() < patience, log.read_text()
            time.sleep(0.2)

    def kill(self) -> None:
        """Kill it and its workers, whatever they do."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False


class TeamProcess:
    """`vjepa-exp ui` as a process of its own.

    Args:
        folder: it is called in.
        options: more of them.
        variables: more of its environment.
    """

    def __init__(self, folder: Path, options: tuple[str, ...], variables: dict[str, str]) -> None:
        self._folder, self._options, self._variables = folder, options, variables
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def output(self) -> str:
        """What it has said."""
        return (self._folder / "team.log").read_text(encoding="utf-8")

    @property
    def password(self) -> str:
        """The administrator's."""
        file = self._folder / "runs" / "team" / "password"
        return self._variables.get("MLFLOW_AUTH_ADMIN_PASSWORD") or file.read_text().strip()

    def start(self) -> None:
        """Start, and wait until it answers."""
        command = [sys.executable, "-c", "from vjepa_exp.cli import main; main()", "ui"]
        with (self._folder / "team.log").open("ab") as output:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port), *self._options],
                cwd=self._folder,
                stdout=output,
                stderr=output,
                env=os.environ | self._variables,
                start_new_session=True,
            )
        patience = time.monotonic() + SERVER_START_S
        while self.ask("/health") != 200:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < patience, self.output
            time.sleep(0.2)

    def stop(self) -> None:
        """End it and its workers."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def ask(self, path: str, user: str | None = None, password: str = "", body: dict[str, str] | None = None) -> int:
        """The status of an answer; 0 where there is none."""
        request = urllib.request.Request(f"{self.uri}{path}", json.dumps(body).encode() if body else None)
        request.add_header("Content-Type", "application/json")
        if user:
            request.add_header("Authorization", f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except (urllib.error.URLError, OSError):
            return 0


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server on a SQLite file."""
    with _running(tmp_path / "server", f"sqlite:///{tmp_path}/server.db") as running:
        yield running


@pytest.fixture
def postgresql_uri() -> Iterator[str]:
    """A database of a PostgreSQL cluster of its own."""
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed")
    with _postgresql() as uri:
        yield uri


@pytest.fixture
def postgresql_server(tmp_path: Path, postgresql_uri: str) -> Iterator[Server]:
    """A server on a PostgreSQL cluster of its own."""
    with _running(tmp_path / "server", postgresql_uri) as running:
        yield running


@pytest.fixture
def team_server(tmp_path: Path) -> Iterator[Callable[..., TeamProcess]]:
    """Starts `vjepa-exp ui --serve` with more options and variables; without `--serve` for one that is not a team's."""
    running = list[TeamProcess]()

    def start(*options: str, serve: bool = True, **variables: str) -> TeamProcess:
        running.append(TeamProcess(tmp_path, ("--serve", *options) if serve else options, variables))
        running[-1].start()
        return running[-1]

    yield start
    for one in running:
        one.stop()


@contextmanager
def _running(folder: Path, backend: str) -> Iterator[Server]:
    server = Server(folder, backend)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@contextmanager
def _postgresql() -> Iterator[str]:
    """The URI of a new PostgreSQL cluster, which listens on a socket in a temporary folder."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    found = shutil.which("initdb")
    binaries = Path(found).parent if found else installed[-1] if installed else None
    if binaries is None:
        pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
    user = _not_root()
    folder = Path(mkdtemp(prefix="pg-"))  # a socket's path is short, and pytest's own folders are for one user
    if user is not None:
        shutil.chown(folder, user)

    def call(program: str, *arguments: str) -> None:
        log = folder / "call.log"
        with log.open("ab") as output:
            command = [str(binaries / program), "-D", str(folder / "data"), *arguments]
            done = subprocess.run(command, cwd=folder, user=user, stdout=output, stderr=output, check=False)
        assert done.returncode == 0, log.read_text()

    try:
        call("initdb", "--username=mlflow", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        call("pg_ctl", "-w", "-l", str(folder / "server.log"), "-o", f"-F -h '' -k {folder}", "start")
        try:
            yield f"postgresql+psycopg2://mlflow@/postgres?host={folder}"
        finally:
            call("pg_ctl", "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def _not_root() -> str | None:
    """A user for PostgreSQL, which root must not run; None for the one that runs the tests."""
    if os.geteuid() != 0:
        return None
    return next(user for user in ("postgres", "nobody") if user in {entry.pw_name for entry in pwd.getpwall()})
