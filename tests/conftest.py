"""What every test shares: the repository root, the reference material where it is present, and one Ray instance."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Set before torch or Ray is imported: one computing thread a process, so that tests beside each other and Ray's
# actors do not fight for the cores; a local Ray without login, whose controller polls often enough for short runs.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")
os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")


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


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One local Ray instance for all tests marked `ray`: starting one takes seconds."""
    import ray

    # The dashboard stays on: trainers inside Tune leak their placement groups without it.
    ray.init(
        num_cpus=8,
        object_store_memory=300_000_000,
        include_dashboard=True,
        logging_level=logging.ERROR,
        log_to_driver=False,
    )
    yield
    ray.shutdown()
