"""What every test shares: the repository root, the reference material where it is present, and one Ray instance."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vjepa_exp.runtime.environment import prepare

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
