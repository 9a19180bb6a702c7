"""Trees of empty files: a listing names files, nobody looks into them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vjepa_exp.data.listing import Listing

Touch = Callable[..., Path]


@pytest.fixture
def touch(tmp_path: Path) -> Touch:
    """Make empty files below `files/`, which is returned."""

    def make(*names: str) -> Path:
        root = tmp_path / "files"
        root.mkdir(exist_ok=True)
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
        return root

    return make


@pytest.fixture
def rows() -> Callable[[Listing], list[tuple[str, str, str]]]:
    """Path, class name ("" for none) and split of every file of a listing."""

    def of(listing: Listing) -> list[tuple[str, str, str]]:
        names = [*listing.classes, ""]
        return [(row["path"], names[row["label"]], row["split"]) for row in listing.table.to_pylist()]

    return of
