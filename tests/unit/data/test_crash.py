"""A decoder that dies by a signal: its file is known afterwards and costs a child process, not the run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vjepa_exp.data.crash import SUSPECTS, Notes, alone
from vjepa_exp.data.readers import DecodeError

DYING = """
import os, signal, sys
from pathlib import Path
from vjepa_exp.data.crash import Notes
Notes(Path(sys.argv[1])).decode(lambda path: os.kill(os.getpid(), int(sys.argv[3])), sys.argv[2])
"""


def read(path: str) -> tuple[str, int]:
    if "deadly" in path:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "shot" in path:
        os.kill(os.getpid(), signal.SIGKILL)
    if "bad" in path:
        raise DecodeError("corrupt", path, "no frame")
    return path, os.getpid()


def die_with(folder: Path, path: str, sig: signal.Signals) -> None:
    done = subprocess.run([sys.executable, "-c", DYING, str(folder), path, str(int(sig))], check=False)
    assert done.returncode == -sig


def test_a_file_that_killed_a_process_kills_no_other(tmp_path: Path) -> None:
    die_with(tmp_path, "deadly é.mp4", signal.SIGSEGV)
    notes = Notes(tmp_path)
    for _ in range(2):  # and it stays so
        with pytest.raises(DecodeError, match="crash: crashed the decoder"):
            notes.decode(read, "deadly é.mp4")
    assert notes.decode(read, "fine.mp4") == ("fine.mp4", os.getpid())
    with pytest.raises(DecodeError, match="crashed the decoder"):  # over a restart as well
        Notes(tmp_path).decode(read, "deadly é.mp4")


def test_a_killed_process_leaves_no_innocent_file_out(tmp_path: Path) -> None:
    die_with(tmp_path, "fine.mp4", signal.SIGKILL)
    notes = Notes(tmp_path)
    path, process = notes.decode(read, "fine.mp4")
    assert (path, process == os.getpid()) == ("fine.mp4", False)
    assert notes.decode(read, "fine.mp4") == ("fine.mp4", os.getpid())  # acquitted


def test_the_living_are_not_suspected(tmp_path: Path) -> None:
    first = Notes(tmp_path)

    def while_another_starts(path: str) -> str:
        Notes(tmp_path)
        return path

    assert first.decode(while_another_starts, "slow.mp4") == "slow.mp4"
    assert not (tmp_path / SUSPECTS).exists()


def test_errors_and_repeated_kills_come_back_as_reasons() -> None:
    with pytest.raises(DecodeError, match="corrupt: no frame"):
        alone(read, "bad.mp4")
    with pytest.raises(DecodeError, match="killed 3 times"):
        alone(read, "shot.mp4")
