"""`ui` and `doctor`: MLflow's server on a store or for a team, and what this machine has."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, NoReturn

from rich.text import Text

from vjepa_exp.commands.console import console, grid, prose
from vjepa_exp.graph.machine import this_machine
from vjepa_exp.graph.store import Store
from vjepa_exp.spec.errors import UserError
from vjepa_exp.track.database import LOOPBACK, UI_PORT, artifact_folder, database_file, runs_page, tracking_uri
from vjepa_exp.track.team import ADMIN, PASSWORD_VARIABLE, TeamServer, is_loopback

PORTS_TRIED = 20
ENOUGH_DISK_GB, ENOUGH_SHARED_GB = 5, 1


def ui(store: Path, port: int | None) -> NoReturn:
    """Become the MLflow server of a store's SQLite file; listens on the loopback interface only.

    Args:
        store: whose runs to show.
        port: the first one to try; that of the links in reports where None.

    Raises:
        UserError: nothing was tracked in the store, or no port is free.
    """
    database = database_file(Store(store))
    if not database.is_file():
        raise UserError(f"the store {store} has no MLflow runs yet ({database} is missing): vjepa-exp run makes them")
    port = _free_port(UI_PORT if port is None else port)
    here = Store(store)
    page = f"http://{LOOPBACK}:{port}/{runs_page(here)}"
    console().print(f"MLflow will be in a moment on {page} (Ctrl-C stops it)", soft_wrap=True)
    arguments = ["--backend-store-uri", tracking_uri(here, None), "--artifacts-destination", str(artifact_folder(here))]
    address = ["--host", LOOPBACK, "--port", str(port), "--workers", "1", "--uvicorn-opts", "--log-level warning"]
    _become_mlflow([*arguments, *address], {})


def team_server(
    store: Path, port: int | None, host: str, database: str | None, artifacts: str | None, names: Sequence[str]
) -> TeamServer:
    """What the options ask for."""
    return TeamServer(store / "team", database, artifacts, host, UI_PORT if port is None else port, tuple(names))


def require_nothing_of_a_team(asked: TeamServer) -> None:
    """Without passwords nobody but this machine looks on.

    Raises:
        UserError: an option is for --serve alone.
    """
    if not is_loopback(asked.host):
        raise UserError(f"--host {asked.host}: whoever reaches it could do anything: --serve asks for a password")
    given = {"--database": asked.database, "--artifacts": asked.artifacts, "--allow": asked.names}
    if wrong := [option for option, value in given.items() if value]:
        raise UserError(f"{wrong[0]} is for the server of a team: --serve")


def serve(server: TeamServer) -> NoReturn:
    """Become an MLflow server that asks for passwords.

    Raises:
        UserError: an option cannot be used.
    """
    server.prepare()
    out = console()
    secret = f"in {server.password_file}"
    if PASSWORD_VARIABLE in os.environ:
        secret = f"what {PASSWORD_VARIABLE} was at its first start"
    out.print(f"MLflow will be in a moment on {server.uri} (Ctrl-C stops it)", soft_wrap=True)
    out.print(f"user '{ADMIN}', password: {secret}", soft_wrap=True)
    out.print("clients set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD", soft_wrap=True)
    if not is_loopback(server.host):
        prose(out, f"it listens on {server.host} without TLS: passwords can be read on the way. Put a proxy before it")
    _become_mlflow(server.arguments(), server.environment())


def _become_mlflow(arguments: list[str], environment: dict[str, str]) -> NoReturn:
    """This process goes on as `mlflow server`; what the user has set in the environment stays, `environment` wins."""
    sys.stdout.flush()
    quiet = {"MLFLOW_LOGGING_LEVEL": "ERROR", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "mlflow", "server", *arguments]
    os.execve(sys.executable, command, {**quiet, **os.environ, **environment})


def _free_port(first: int) -> int:
    for port in range(first, first + PORTS_TRIED):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except (OSError, OverflowError):
                continue
            return port
    raise UserError(f"no free port from {first} to {first + PORTS_TRIED - 1}: choose another with --port")


class Finding(NamedTuple):
    """One line of `doctor`."""

    what: str
    state: Literal["ok", "note", "BAD"]
    detail: str


def doctor(store: Path) -> bool:
    """Print what this machine has; whether everything that a run needs is there."""
    checks: list[Callable[[], Finding]] = [
        _python,
        *(lambda name=name: _library(name) for name in ("torch", "ray", "decord", "av", "mlflow", "pyarrow")),
        _processors,
        _gpus,
        lambda: _disk(store),
        _shared_memory,
    ]
    findings = [*(check() for check in checks), *_readers()]
    console().print(grid(("", "", ""), [(f.state, f.what, f.detail) for f in findings]))
    bad = [finding.what for finding in findings if finding.state == "BAD"]
    console().print(Text(f"missing: {', '.join(bad)}" if bad else "ready: vjepa-exp run quickstart"))
    return not bad


def _python() -> Finding:
    version = platform.python_version()
    fine = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return Finding("Python", "ok" if fine else "BAD", version if fine else f"{version}; 3.11 to 3.13 is needed")


def _library(name: str) -> Finding:
    try:
        module = importlib.import_module(name)
    except (ImportError, OSError) as error:  # OSError: a shared library that it needs is not there
        return Finding(name, "BAD", f"cannot be imported: {error}")
    return Finding(name, "ok", str(getattr(module, "__version__", "")))


def _processors() -> Finding:
    machine = this_machine()
    memory = machine.memory_bytes / 2**30
    return Finding("CPU", "ok", f"{machine.cores} cores, {memory:.0f} GB memory ({machine.cpu})")


def _gpus() -> Finding:
    gpus = this_machine().gpus
    if not gpus:
        return Finding("GPU", "note", "none: the laptop profile runs on the CPU")
    import torch

    names = ", ".join(f"{gpu.name} ({gpu.memory_gb:.0f} GB)" for gpu in gpus)
    if not torch.cuda.is_available():
        return Finding("GPU", "BAD", f"{names}, but this PyTorch ({torch.__version__}) cannot use it")
    return Finding("GPU", "ok", names)


def _disk(store: Path) -> Finding:
    folder = next(path for path in (store.resolve(), *store.resolve().parents) if path.is_dir())
    free = shutil.disk_usage(folder).free / 2**30
    if not os.access(folder, os.W_OK):
        return Finding("store", "BAD", f"{folder} cannot be written")
    state: Literal["ok", "note"] = "ok" if free >= ENOUGH_DISK_GB else "note"
    return Finding("store", state, f"{free:.0f} GB free in {folder}")


def _shared_memory() -> Finding:
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return Finding("shared memory", "note", "no /dev/shm: Ray keeps objects in temporary files, slower")
    free = shutil.disk_usage(folder).free / 2**30
    state: Literal["ok", "note"] = "ok" if free >= ENOUGH_SHARED_GB else "note"
    return Finding("shared memory", state, f"{free:.1f} GB free in {folder}")


def _readers() -> Iterator[Finding]:
    """Which readers of videos work here, and how fast; without PyAV no video is read, the others are a choice."""
    try:
        from vjepa_exp.data.reader_trial import SAMPLE, try_readers  # with PyAV
    except (ImportError, OSError):
        return  # said above
    for trial in try_readers():
        what = f"reader {trial.reader}"
        if trial.absent:
            yield Finding(what, "note", f"not here: {trial.absent}")
        elif trial.wrong:
            yield Finding(what, "BAD", trial.wrong)
        else:
            yield Finding(what, "ok", f"{trial.clips_per_s:.0f} clips/s a core ({SAMPLE})")
