"""The demo data: whole or not at all, the same every time, decodable, and nothing shared between the splits."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from vjepa_exp.data.demo import encode, make_demo
from vjepa_exp.data.demo_render import APPEARANCES, MOTIONS, render_clip, render_still
from vjepa_exp.data.readers import decode
from vjepa_exp.graph.demo import DemoSpec
from vjepa_exp.spec.errors import UserError
from vjepa_models.keyed_rng import keyed_rng

SPEC = DemoSpec(num_train=16, num_val=8, num_train_stills=8, num_val_stills=8, num_frames=8)


def ignore(done: int, total: int) -> None:
    """Progress that nobody watches."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("demo") / "files"
    make_demo(root, SPEC, 1, ignore)
    return root


def rows(root: Path, task: str) -> list[dict[str, str]]:
    with (root / f"demo_{task}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_two_makings_are_equal_to_the_byte(root: Path, tmp_path: Path) -> None:
    make_demo(tmp_path / "again", SPEC, 2, ignore)
    assert digests(tmp_path / "again") == digests(root)


def test_no_file_stands_twice(root: Path) -> None:
    contents = [digest for path, digest in digests(root).items() if path.endswith((".mp4", ".png"))]
    assert len(set(contents)) == len(contents) == 16 + 8 + 8 + 8


def test_labels_are_balanced_in_every_split(root: Path) -> None:
    for task, classes in (("appearance", APPEARANCES), ("motion", MOTIONS), ("stills", APPEARANCES)):
        for split in ("train", "val"):
            labels = [int(row["label"]) for row in rows(root, task) if row["split"] == split]
            assert sorted(set(labels)) == list(range(len(classes)))
            assert len(set(np.bincount(labels))) == 1


def test_clips_decode_to_what_was_rendered(root: Path) -> None:
    row = rows(root, "motion")[0]
    labels = {other["path"]: int(other["label"]) for other in rows(root, "appearance")}
    rng = keyed_rng(SPEC.seed, "demo.clip.train", 0)
    rendered = render_clip(rng, labels[row["path"]], int(row["label"]), SPEC.num_frames, SPEC.resolution)
    decoded = decode(str(root / row["path"]), np.arange(SPEC.num_frames), "decord")
    assert decoded.shape == rendered.shape
    assert np.abs(decoded.astype(int) - rendered).mean() < 20  # H.264 smooths the snow


def test_stills_are_images(root: Path) -> None:
    with Image.open(root / rows(root, "stills")[0]["path"]) as image:
        assert image.size == (SPEC.resolution, SPEC.resolution)


@pytest.mark.parametrize("motion", range(len(MOTIONS)))
def test_motions_move_as_they_are_called(motion: int) -> None:
    """Snow is grey; what is red is the sprite."""
    clip = render_clip(np.random.default_rng(3), 0, motion, 24, 64).astype(float)
    red = clip[..., 0] - clip[..., 1:].mean(axis=-1)

    def centre(frames: np.ndarray) -> np.ndarray:
        reddish = np.clip(frames.mean(axis=0), 0, None)
        return np.array([reddish.sum(axis=axis) @ np.arange(64) for axis in (0, 1)]) / reddish.sum()

    x, y = centre(red[14:20]) - centre(red[4:10])
    assert (x > 3) == ("right" in MOTIONS[motion])
    assert (x < -3) == ("left" in MOTIONS[motion])
    assert (y > 3) == ("down" in MOTIONS[motion])
    assert (y < -3) == ("up" in MOTIONS[motion])


def test_a_still_is_a_pure_function_of_its_generator() -> None:
    first, second = (render_still(np.random.default_rng(7), 2, 64) for _ in range(2))
    assert np.array_equal(first, second)


def test_a_half_made_set_is_made_again(tmp_path: Path) -> None:
    root = tmp_path / "files"
    (tmp_path / "files.part" / "videos").mkdir(parents=True)
    (tmp_path / "files.part" / "videos" / "old.mp4").write_bytes(b"half")
    make_demo(root, SPEC, 1, ignore)
    assert not (tmp_path / "files.part").exists()
    assert not (root / "videos" / "old.mp4").exists()


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(UserError, match="cannot be written"):
        make_demo(tmp_path / "file" / "files", SPEC, 1, ignore)


def test_groups_of_frames_are_short(tmp_path: Path) -> None:
    clip = render_clip(np.random.default_rng(0), 0, 0, 20, 64)
    encode(tmp_path / "clip.mp4", clip, 12)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        keys = [i for i, packet in enumerate(container.demux(video=0)) if packet.is_keyframe]
    assert keys[:3] == [0, 8, 16]
