"""What every test shares: the repository root, the reference material where it is present, and one Ray instance."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest

from vjepa_exp.data import remote
from vjepa_exp.runtime.environment import prepare
from vjepa_exp.track import database

# Both before a test module imports torch or Ray. One computing thread a process: tests beside Ray's actors do not
# fight for the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
prepare(address=None, verbose=False)


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The checkout that the tests lie in."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_dir(repo_root: Path) -> Path:
    """The reference material (golden numbers, real videos), which is not part of the repository."""
    path = Path(os.environ.get("VJEPA_EXP_SHARED", repo_root.parent / "shared"))
    if not path.is_dir():
        pytest.skip(f"no reference material at {path} (set VJEPA_EXP_SHARED)")
    return path


@pytest.fixture(scope="session", autouse=True)
def _tables_made_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """MLflow makes the tables of the first store, the others begin with a copy of its empty database."""
    empty, make_tables = tmp_path_factory.mktemp("mlflow") / "empty.db", database.make_tables

    def copied(path: Path, artifacts: Path) -> None:
        if not empty.exists():
            make_tables(empty, artifacts)
        shutil.copyfile(empty, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "make_tables", copied)
        yield


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a disk of a given size ('100k') and returns its folder; called again, it changes the size."""
    folder = tmp_path / "disk"

    def mount(size: str) -> Path:
        options = f"remount,size={size}" if folder.is_mount() else f"size={size}"
        folder.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("mounting a small disk needs Linux and root")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One local Ray for all tests marked `ray`: starting one takes seconds, and a run joins the one that is there."""
    from vjepa_exp.runtime import session

    with session.ray_session(address=None, cpus=8, gpus=0):
        yield


@dataclass
class Web:
    """A web server on a folder.

    Attributes:
        url: of the folder.
        folder: what it serves.
        asked: (method, path) of every request.
        drops: path -> how many more answers of that file end in the middle of it.
        refused: path -> status that is sent instead of the file.
        pause_s: before the second half of every file.
    """

    url: str
    folder: Path
    asked: list[tuple[str, str]] = field(default_factory=list)
    drops: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    pause_s: float = 0.0

    def put(self, folder: Path, prefix: str) -> str:
        """Copy a folder to what is served, and return its URL."""
        shutil.copytree(folder, self.folder / prefix)
        return f"{self.url}/{quote(prefix)}"

    def count(self, path: str) -> int:
        """How often the content of a file was asked for."""
        return self.asked.count(("GET", path))


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    """A web server on an empty folder."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(super().do_HEAD)

        def do_GET(self) -> None:
            self.answer(super().do_GET)

        def answer(self, serve: Callable[[], None]) -> None:
            found.asked.append((self.command, self.path))
            if status := found.refused.get(self.path):
                self.send_error(status)
            else:
                serve()

        def copyfile(self, source: Any, outputfile: Any) -> None:
            content = source.read()
            outputfile.write(content[: len(content) // 2])
            outputfile.flush()
            time.sleep(found.pause_s)
            if found.drops.get(self.path, 0) > 0:
                found.drops[self.path] -= 1
                return  # the rest of what the header has promised never comes
            outputfile.write(content[len(content) // 2 :])

    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        found = Web(f"http://127.0.0.1:{server.server_port}", folder)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield found
        server.shutdown()
        thread.join()


@dataclass(frozen=True)
class Bucket:
    """An empty bucket of a real server of an object store on this machine.

    Attributes:
        uri: of the bucket.
        environment: by which any client finds the server.
        system: fsspec's view of it.
        refused: what the server may not do for a client -> status and words of its answer; Google's only.
    """

    uri: str
    environment: dict[str, str]
    system: Any
    refused: dict[str, tuple[int, str]] = field(default_factory=dict)

    def put(self, folder: Path, prefix: str) -> str:
        """Copy a folder into the bucket, and return its URI."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.system.put_file(str(path), f"{self.uri}/{prefix}/{path.relative_to(folder).as_posix()}")
        return f"{self.uri}/{prefix}"


@pytest.fixture(params=["s3", "gs"])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    """A bucket of S3 and one of Google, known to this process and its children by the environment."""
    found: Bucket = request.getfixturevalue(f"{request.param}_bucket")
    return found


@pytest.fixture
def s3_bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A bucket of moto's S3."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "something",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with _known("s3", environment, monkeypatch) as (uri, system):
        yield Bucket(uri, environment, system)
    server.stop()


@pytest.fixture
def gs_bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A bucket of a stand-in for Google's store, which asks for no credentials."""
    pytest.importorskip("gcsfs", reason="no gcsfs (pip install -c constraints.txt --group gcs)")
    emulator = pytest.importorskip("gcp_storage_emulator.server", reason="no gcp-storage-emulator (--group gcs)")
    refused: dict[str, tuple[int, str]] = {}

    class Handler(emulator.RequestHandler):  # type: ignore[misc, name-defined]
        def do_GET(self) -> None:  # noqa: N802 (http.server's name)
            path = self.path.partition("?")[0]
            what = "list" if path.endswith("/o") else "get" if "/o/" in path else "describe"
            if (answer := refused.get(what)) is None:
                super().do_GET()
                return
            status, message = answer
            content = json.dumps({"error": {"code": status, "message": message}}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    monkeypatch.setattr(emulator, "RequestHandler", Handler)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = emulator.create_server("127.0.0.1", port, in_memory=True)
    server.start()
    environment = {
        "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}",
        "NO_GCE_CHECK": "true",  # nor are credentials looked for on the network
        "CLOUDSDK_CONFIG": "/nonexistent",
    }
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    with _known("gs", environment, monkeypatch) as (uri, system):
        yield Bucket(uri, environment, system, refused)
    server.stop()


@contextmanager
def _known(scheme: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Any]]:
    """A new bucket on a server that the environment names: its URI, and a view of it."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    remote._filesystem.cache_clear()
    system = remote._filesystem(scheme)
    name = f"videos-{uuid4().hex[:8]}"  # servers of one process share what they hold
    system.mkdir(name)
    forget(system)
    yield f"{scheme}://{name}", system
    forget(system)


def forget(system: Any) -> None:
    """Let the next use of a store begin as in a new process."""
    remote._filesystem.cache_clear()
    type(system).clear_instance_cache()
