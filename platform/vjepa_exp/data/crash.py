"""Files whose decoder kills its process: known by a note that outlives it, then decoded in a process of their own.

A note says that a process died with a file in its hands, not why: a killed run leaves notes on innocent files. So a
note only decides where a file is decoded, and what comes of it (pixels, or "crashed the decoder") depends on the file
and the frames alone: restarts, workers and the moment of a kill change no sample.
"""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar
from uuid import uuid4

from vjepa_exp.data.readers import DecodeError

P = ParamSpec("P")
R = TypeVar("R")

SUSPECTS = "suspects.jsonl"
ALONE_S = 50.0
"""Below the time limit of the source, so that a process that hangs does not outlive it."""
ALONE_ATTEMPTS = 3
FATAL = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE}


class Notes:
    """What this process decodes, in a file that it holds locked for as long as it lives.

    Args:
        folder: of all processes of a stage; made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._note = os.open(folder / f"{uuid4().hex}.note", os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(self._note, fcntl.LOCK_EX)
        _collect(folder)
        self._suspects = set(_lines(folder / SUSPECTS))

    def decode(self, function: Callable[Concatenate[str, P], R], path: str, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `function(path, ...)` here, or in a process of its own where the file is suspected.

        Raises:
            DecodeError: of the function, or the file crashed the decoder.
        """
        if path in self._suspects:
            found = alone(function, path, *args, **kwargs)
            self._suspects.discard(path)
            return found
        os.ftruncate(self._note, 0)  # a call that hangs left its own
        os.pwrite(self._note, path.encode(errors="surrogateescape"), 0)
        try:
            return function(path, *args, **kwargs)
        finally:
            os.ftruncate(self._note, 0)


_notes: Notes | None = None


def keep_notes(folder: Path) -> None:
    """From now on this process notes what it decodes; files that killed another one are suspected."""
    global _notes  # one decoder to a process
    _notes = Notes(folder)


def noted(function: Callable[Concatenate[str, P], R], path: str, *args: P.args, **kwargs: P.kwargs) -> R:
    """Call `function(path, ...)`, safe from files that are known to kill, where notes are kept.

    Raises:
        DecodeError: of the function, or the file crashed the decoder.
    """
    return (_notes.decode if _notes else _plain)(function, path, *args, **kwargs)


def alone(function: Callable[Concatenate[str, P], R], path: str, *args: P.args, **kwargs: P.kwargs) -> R:
    """Call `function(path, ...)`, importable by name, in a process that may die of it.

    Raises:
        DecodeError: of the function, or the process died of the file or hung.
    """
    for _ in range(ALONE_ATTEMPTS):
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=_child, args=(sender, function, path, args, kwargs), daemon=True)
        child.start()
        sender.close()
        try:
            if not receiver.poll(ALONE_S):
                raise DecodeError("timeout", path, f"the decoder did not come back in {ALONE_S:.0f} s")
            value, error = receiver.recv()
        except EOFError:
            child.join()
            if -(child.exitcode or 0) in FATAL:
                raise DecodeError("crash", path, "crashed the decoder") from None
            continue  # killed from outside
        finally:
            child.kill()
            child.join()
            receiver.close()
        if error is not None:
            raise error
        return value
    raise DecodeError("crash", path, f"its decoder was killed {ALONE_ATTEMPTS} times")


def _child(sender: Connection, function: Callable[..., Any], path: str, args: Any, kwargs: Any) -> None:
    outcome: tuple[Any, Exception | None]
    try:
        outcome = function(path, *args, **kwargs), None
    except Exception as error:  # noqa: BLE001 (handed on)
        outcome = None, error
    sender.send(outcome)


def _plain(function: Callable[Concatenate[str, P], R], path: str, *args: P.args, **kwargs: P.kwargs) -> R:
    return function(path, *args, **kwargs)


def _collect(folder: Path) -> None:
    """Suspect what the dead had in their hands: their locks are gone."""
    for file in folder.glob("*.note"):
        with file.open("r+b") as note:
            try:
                fcntl.flock(note, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if path := note.read().decode(errors="surrogateescape"):
                with (folder / SUSPECTS).open("a", encoding="utf-8") as suspects:
                    suspects.write(json.dumps(path) + "\n")
                note.truncate(0)


def _lines(file: Path) -> list[str]:
    if not file.is_file():
        return []
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
