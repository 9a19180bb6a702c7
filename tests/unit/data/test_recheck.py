from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from vjepa_exp.data.index import index
from vjepa_exp.data.manifest import Manifest
from vjepa_exp.data.recheck import Change, recheck


@pytest.fixture
def copy(video_folder: Path, tmp_path: Path) -> Manifest:
    shutil.copytree(video_folder, tmp_path / "videos")
    return index(tmp_path / "videos")


def test_files_as_they_were_are_no_change(copy: Manifest) -> None:
    assert recheck(copy) == []


def test_every_change_is_told_in_words(copy: Manifest, make_video) -> None:
    make_video(copy.root / "train/up/0.mp4", frames=9)
    (copy.root / "train/up/1.mp4").unlink()
    (copy.root / "train/up/2.mp4").write_bytes(b"")
    make_video(copy.root / "train/up/broken.mp4", frames=4)
    (copy.root / "val/up/broken.mp4").write_bytes(b"still no video" * 99)
    changes = {change.path: change.what for change in recheck(copy)}
    assert changes.pop("train/up/0.mp4").startswith("frames 12 -> 9, bytes ")
    assert changes == {
        "train/up/1.mp4": "cannot be read any more: No such file or directory",
        "train/up/2.mp4": "cannot be read any more: empty file",
        "train/up/broken.mp4": "can be read now",
        "val/up/broken.mp4": f"still cannot be read, has {14 * 99} bytes",
    }


def test_damage_that_leaves_the_size_is_found(copy: Manifest) -> None:
    path = copy.root / "val/down/1.mp4"
    path.write_bytes(bytes(path.stat().st_size))
    [change] = recheck(copy)
    assert change == Change("val/down/1.mp4", change.what)
    assert change.what.startswith("cannot be read any more: open:")
