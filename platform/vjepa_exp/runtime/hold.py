"""One training process to a stage's folder: that of a run which was killed may live for a moment longer."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

LOCK = ".training"
PATIENCE_S = 120.0
"""A process whose Ray is gone ends itself in seconds, one whose head is gone in a minute; so long does a shared disk
take to forget a machine that is gone."""


@contextmanager
def held(folder: Path, nodes: Sequence[str] = ()) -> Iterator[None]:
    """Hold a stage's folder for this process; the lock goes with the process, however it ends.

    Args:
        folder: of the stage.
        nodes: Ray's names of the nodes that its workers are on, for whoever asks what became of them.

    Raises:
        RuntimeError: another process does not let go of it.
    """
    with (folder / LOCK).open("a+", encoding="utf-8") as file:
        _take(file, folder)
        file.truncate(0)
        file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "nodes": list(nodes)}))
        file.flush()
        yield


def last_nodes(folder: Path) -> frozenset[str]:
    """Ray's names of the nodes that held a stage's folder last."""
    return frozenset(_holder(folder).get("nodes", ()))


def forget_nodes(folder: Path) -> None:
    """Have `last_nodes` know of none until the folder is held again."""
    try:
        os.truncate(folder / LOCK, 0)
    except FileNotFoundError:
        return


def _take(file: IO[str], folder: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                holder = _holder(folder)
                who = f"process {holder['pid']} on {holder['host']}" if holder else "another process"
                raise RuntimeError(
                    f"another process has trained in {folder} for {PATIENCE_S:.0f} s: {who}. "
                    f"If that machine is gone for good, delete {folder / LOCK}"
                ) from None
            time.sleep(0.1)


def _holder(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / LOCK).read_text(encoding="utf-8") or "{}")
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return found
