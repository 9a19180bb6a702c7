"""Keeps MLflow up to date while a run works, from a thread of the driver."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from vjepa_exp.graph.store import Record
from vjepa_exp.track.connection import refusal
from vjepa_exp.track.tracker import Tracker

EVERY_S = 5.0
MOST_WORDS = 200

Warn = Callable[[str], None]
"""Shows the user a line."""


class Mirror:
    """Calls `sync` of trackers every few seconds; a server that is away is reported once and tried again.

    It is away when it fails twice in turn: one answer that is lost is nobody's concern.

    Args:
        trackers: of the studies, on one server.
        records: of the stages that are done, by fingerprint; grows while the run works.
        failed: reasons of those that failed.
        begun: when (seconds since 1970) stages of this run began.
        warn: called at most twice, of the server's end and of whether everything arrived.
    """

    def __init__(
        self,
        trackers: Sequence[Tracker],
        records: Mapping[str, Record],
        failed: Mapping[str, str],
        begun: Mapping[str, float],
        warn: Warn,
    ) -> None:
        self._trackers, self._records, self._failed, self._begun, self._warn = trackers, records, failed, begun, warn
        self._stop = threading.Event()
        self._failing = self._warned = False
        self._thread = threading.Thread(target=self._loop, name="mlflow", daemon=True)

    def start(self) -> None:
        """Begin; the first call makes the database before anything else can use it."""
        self._thread.start()

    def finish(self) -> None:
        """Send what is left and close what will not go on."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        if not any(self._sync(ended=True) for _ in range(2)):
            self._warn("MLflow: not everything arrived; the same command sends the rest, nothing is lost")
        elif self._warned:
            self._warn("MLflow can be used again, everything arrived")

    def _loop(self) -> None:
        while not self._stop.is_set():
            self._sync()
            self._stop.wait(EVERY_S)

    def _sync(self, *, ended: bool = False) -> bool:
        behind = [tracker for tracker in self._trackers if not tracker.up_to_date()]
        if not behind:
            return True
        try:
            for tracker in behind:
                tracker.sync(dict(self._records), dict(self._failed), dict(self._begun), ended=ended)
        except _failures() as error:
            if not self._warned and self._failing:
                self._warned = True
                self._warn(
                    f"MLflow ({self._trackers[0].uri}) cannot be used, the run goes on without it: {_reason(error)}"
                )
            self._failing = True
            return False
        self._failing = False
        return True


def attach(tracker: Tracker, files: Iterable[Path], warn: Warn) -> None:
    """Add files to the study's run; where MLflow does not take them, they are still in the store."""
    try:
        tracker.attach(files)
    except _failures() as error:
        warn(f"MLflow did not take the report: {_reason(error)}")


def _failures() -> tuple[type[Exception], ...]:
    """What MLflow raises where its server, its database or a disk fails."""
    from mlflow.exceptions import MlflowException  # takes seconds
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, OSError


def _reason(error: Exception) -> str:
    """The error in a few words: what the system said, where it is inside a long message of the HTTP client."""
    if told := refusal(error):
        return told
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename2 or error.filename}"
    line = str(error).strip().partition("\n")[0]
    said = re.search(r"\[Errno -?\d+\] ([^'\")>]+)", line)
    return said[1] if said else line[:MOST_WORDS]
