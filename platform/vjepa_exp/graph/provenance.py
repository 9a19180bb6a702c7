"""Where a result came from: the version of the code and the machine."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from vjepa_exp.graph.machine import this_machine

DISTRIBUTION = "vjepa-exp"
LIBRARIES = ("torch", "ray", "numpy", "decord", "av", "mlflow")


@cache
def code_version() -> dict[str, Any]:
    """Version of the package; git commit and whether files differ from it, None outside a checkout."""
    commit = _git("rev-parse", "HEAD")
    dirty = None if commit is None else bool(_git("status", "--porcelain"))
    return {"version": _version(DISTRIBUTION), "commit": commit, "dirty": dirty}


@cache
def environment() -> dict[str, Any]:
    """Python, the libraries that decide numbers and speed, and the hardware."""
    machine = this_machine()
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in LIBRARIES},
        "platform": platform.platform(),
        "cpu": machine.cpu,
        "cores": machine.cores,
        "memory_bytes": machine.memory_bytes,
        "gpus": [gpu.name for gpu in machine.gpus],
    }


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    """Output of git in the checkout that this file belongs to, None where it is installed or git is absent."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
