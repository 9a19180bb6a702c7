"""A stage's folder belongs to one training process; the next one waits for it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from vjepa_exp.runtime import hold
from vjepa_exp.runtime.hold import forget_nodes, held, last_nodes

HOLDER = """
import sys, time
from pathlib import Path
from vjepa_exp.runtime.hold import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:
    """Another process that holds the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_next_one_waits_until_the_killed_one_is_gone(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    begun = time.monotonic()
    threading.Timer(0.5, holder.kill).start()
    with held(tmp_path):
        assert holder.wait(10) is not None
        assert time.monotonic() - begun >= 0.5
    with held(tmp_path):
        pass


def test_one_that_does_not_go_is_reported(
    holder: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hold, "PATIENCE_S", 0.3)
    with pytest.raises(RuntimeError, match=rf"another process has trained.*{holder.pid} on .*delete"), held(tmp_path):
        pass
    holder.kill()
    holder.wait()


def test_the_nodes_of_the_last_one_are_known_until_they_are_forgotten(tmp_path: Path) -> None:
    assert last_nodes(tmp_path) == frozenset()
    with held(tmp_path, ["a", "b", "c"]):
        pass
    with held(tmp_path, ["b"]):
        assert last_nodes(tmp_path) == {"b"}
    assert last_nodes(tmp_path) == {"b"}
    forget_nodes(tmp_path)
    assert last_nodes(tmp_path) == frozenset()
