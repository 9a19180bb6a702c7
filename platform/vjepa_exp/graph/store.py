"""The store: a folder per stage, and a record written last, so that no record means not done.

Not responsible for what lies in the folders: whoever runs a stage writes its files and names them to `commit`.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from vjepa_exp.graph.provenance import code_version, environment
from vjepa_exp.graph.stage import FORMAT, Kind, Stage
from vjepa_exp.spec.base import Spec
from vjepa_exp.spec.errors import UserError

DEFAULT_ROOT = Path("runs")
"""Where a store is that no command line names."""
RECORD = "record.json"
RECIPE = "recipe.yaml"
LOCK = ".lock"
GLANCE_S = 0.2
"""Whoever asks whether the store is held keeps a run from taking it for less than this."""


class Record(Spec):
    """What a finished stage is, where it came from and what it yielded."""

    format: Literal[1] = FORMAT
    stage: str
    kind: Kind
    fingerprint: str
    recipe: dict[str, Any]
    inputs: dict[str, str]
    """Id of an input stage -> its fingerprint."""
    metrics: dict[str, float]
    coverage: dict[str, int] = Field({}, description="n videos asked for, covered by the score.")
    unreadable: dict[str, dict[str, int]] = Field({}, description="Data set -> kind of reason -> videos not read.")
    files: dict[str, int]
    """File below the stage's folder -> its bytes."""
    code: dict[str, Any]
    environment: dict[str, Any]
    execution: dict[str, Any] = Field({}, description="How the work was done, resolved for the machine.")
    started: str | None = None
    seconds: float | None = None
    mlflow_run_id: str | None = None


class Store:
    """The stages' folders below one root on a local disk."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def option(self) -> str:
        """What a command line needs to find this store: ' --store DIR', and '' for the default."""
        return "" if self.root == DEFAULT_ROOT else f" --store {shlex.quote(str(self.root))}"

    def path(self, stage: Stage) -> Path:
        """The stage's folder, whether it exists or not."""
        return self.root / stage.id

    def record(self, stage: Stage) -> Record | None:
        """The record of a finished stage, None where it is not done.

        Raises:
            UserError: the record is damaged, belongs to another stage, or a file that it lists is gone.
        """
        folder = self.path(stage)
        record = self._read(folder)
        if record is None:
            return None
        if record.fingerprint != stage.fingerprint:
            raise _damaged(folder, f"{RECORD} belongs to another stage of the same short name")
        for name, size in record.files.items():
            file = folder / name
            if not file.is_file() or file.stat().st_size != size:
                raise _damaged(folder, f"{name} is not the file of {size} bytes that {RECORD} lists")
        return record

    def records(self) -> list[Record]:
        """Records of all finished stages, by folder name.

        Raises:
            UserError: a record is damaged.
        """
        found = (self._read(path.parent) for path in sorted(self.root.glob(f"*/{RECORD}")))
        return [record for record in found if record is not None]

    def begin(self, stage: Stage) -> Path:
        """Make the stage's folder and write its recipe into it; what a broken run left there stays.

        Raises:
            UserError: the store cannot be written, or the folder belongs to another stage.
        """
        folder = self.path(stage)
        body = {"fingerprint": stage.fingerprint, "recipe": stage.recipe.to_json()}
        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            recipe = folder / RECIPE
            if recipe.is_file() and stage.fingerprint not in recipe.read_text(encoding="utf-8"):
                raise _damaged(folder, f"{RECIPE} belongs to another stage of the same short name")
            write_atomically(recipe, yaml.safe_dump(body, sort_keys=False, allow_unicode=True))
        return folder

    def commit(self, stage: Stage, metrics: dict[str, float], files: list[str], extra: dict[str, Any]) -> Record:
        """Write the record; from then on the stage is done.

        Args:
            stage: the finished stage.
            metrics: its results by name.
            files: its files, relative to its folder; they must exist and be safe on the disk.
            extra: `coverage`, `unreadable`, `execution`, `started`, `seconds`, `mlflow_run_id`, as far as known.

        Raises:
            UserError: the store cannot be written.
        """
        folder = self.path(stage)
        record = Record(
            stage=stage.id,
            kind=stage.kind,
            fingerprint=stage.fingerprint,
            recipe=stage.recipe.to_json(),
            inputs={needed.id: needed.fingerprint for needed in stage.inputs},
            metrics=metrics,
            files={name: (folder / name).stat().st_size for name in sorted(files)},
            code=code_version(),
            environment=environment(),
            **extra,
        )
        with _writing(folder):
            write_atomically(folder / RECORD, record.model_dump_json(indent=2) + "\n")
        return record

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the store for this process.

        Raises:
            UserError: another run holds it, or it cannot be written.
        """
        path = self.root / LOCK
        with _writing(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not _taken(handle, fcntl.LOCK_EX, GLANCE_S):
                holder = os.read(handle, 1000).decode(errors="replace").strip() or "another run"
                raise UserError(
                    f"the store {self.root} is in use by {holder}. Wait for it, or choose another: --store DIR. "
                    f"If its machine is gone for good: delete {path}"
                )
            now = datetime.now(UTC).isoformat(timespec="seconds")
            with _writing(self.root):
                os.ftruncate(handle, 0)
                os.write(
                    handle,
                    f"process {os.getpid()} ({shlex.join(sys.argv)}) on {socket.gethostname()}, since {now}".encode(),
                )
            yield
            os.ftruncate(handle, 0)
        finally:
            os.close(handle)

    def held_since(self) -> float | None:
        """When the run that holds the store took it, seconds since 1970 by the clock of the disk; None if none does."""
        try:
            handle = os.open(self.root / LOCK, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            return None if _taken(handle, fcntl.LOCK_SH) else os.fstat(handle).st_mtime
        finally:
            os.close(handle)

    def _read(self, folder: Path) -> Record | None:
        try:
            text = (folder / RECORD).read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise _damaged(folder, f"{RECORD} cannot be read ({error})") from None
        try:
            return Record.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "JSON"
            raise _damaged(folder, f"{RECORD} is not valid ({where}: {first['msg']})") from None


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that after a crash it holds either the old or the new text in full."""
    aside = path.with_name(f".{path.name}.part")
    with aside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _taken(handle: int, kind: int, patience_s: float = 0.0) -> bool:
    """Take a lock on an open file, or tell that another process did not let go of it in time."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.01)
        else:
            return True


def _damaged(folder: Path, what: str) -> UserError:
    return UserError(f"{folder}: {what}. Put it back, or delete the folder to have the stage done again.")


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"the store cannot be written: {error.strerror}: {error.filename or folder}") from None
