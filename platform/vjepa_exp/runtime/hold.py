"""One training process to a stage's folder: that of a run which was killed may live for a moment longer."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = ".training"
PATIENCE_S = 120.0
"""A process whose Ray is gone ends itself in seconds."""


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a stage's folder for this process; the lock goes with the process, however it ends.

    Raises:
        RuntimeError: another process does not let go of it.
    """
    with (folder / LOCK).open("w") as file:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"another process has trained in {folder} for {PATIENCE_S:.0f} s") from None
                time.sleep(0.1)
        yield
