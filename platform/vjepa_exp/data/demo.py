"""The demo data set: H.264 clips of moving sprites with two labels each, and still images of the same sprites.

Training and validation share the classes and nothing else: every clip draws its sprite, texture and background anew.
The same settings give the same files on one machine.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

from vjepa_exp.data.demo_render import APPEARANCES, MOTIONS, render_clip, render_still
from vjepa_exp.graph.demo import DemoSpec
from vjepa_exp.spec.errors import UserError
from vjepa_models.keyed_rng import keyed_rng

_GOP = 8
_CODEC_OPTIONS = {
    "crf": "14",
    "preset": "veryfast",
    "tune": "fastdecode",
    "x264-params": "open-gop=0:scenecut=0:threads=1",
}
_CHUNK = 16


class _Item(NamedTuple):
    """A file to make."""

    path: str
    split: str
    number: int
    appearance: int
    motion: int | None
    """None for a still."""


def make_demo(root: Path, spec: DemoSpec, processes: int, progress: Callable[[int, int], None]) -> None:
    """Make the files and their manifests in `root`, which appears only when all is there.

    Args:
        root: gets `videos/`, `stills/`, a CSV (`path,label,split`) and the class names of each task.
        spec: counts, sizes and seed.
        processes: how many render and encode.
        progress: called with the number of files made and to make.

    Raises:
        UserError: a file cannot be written.
    """
    if root.is_dir():
        return
    aside = root.with_name(root.name + ".part")
    items = list(_items(spec))
    try:
        shutil.rmtree(aside, ignore_errors=True)
        for folder in {(aside / item.path).parent for item in items}:
            folder.mkdir(parents=True)
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            done = pool.map(partial(_make, aside, spec), items, chunksize=_CHUNK)
            for count, _ in enumerate(done, start=1):
                progress(count, len(items))
        _write_lists(aside, items)
        aside.replace(root)
    except OSError as error:
        raise UserError(f"the demo data cannot be written to {root}: {error.strerror or error}") from None


def _items(spec: DemoSpec) -> Iterator[_Item]:
    """All files; the labels of a split are balanced and independent of each other."""
    for split, num_clips, num_stills in (
        ("train", spec.num_train, spec.num_train_stills),
        ("val", spec.num_val, spec.num_val_stills),
    ):
        for i, pair in enumerate(_labels(spec, split, num_clips)):
            yield _Item(f"videos/{split}/{i:05d}.mp4", split, i, *pair)
        for i in range(num_stills):
            yield _Item(f"stills/{split}/{i:05d}.png", split, i, i % len(APPEARANCES), None)


def _labels(spec: DemoSpec, split: str, count: int) -> Iterator[tuple[int, int]]:
    """Appearance and motion of each clip."""
    order = [
        keyed_rng(spec.seed, f"demo.labels.{split}", task).permutation(count) % number
        for task, number in enumerate((len(APPEARANCES), len(MOTIONS)))
    ]
    return ((int(appearance), int(motion)) for appearance, motion in zip(*order, strict=True))


def _make(root: Path, spec: DemoSpec, item: _Item) -> None:
    path = root / item.path
    kind = "still" if item.motion is None else "clip"
    rng = keyed_rng(spec.seed, f"demo.{kind}.{item.split}", item.number)
    if item.motion is None:
        Image.fromarray(render_still(rng, item.appearance, spec.resolution)).save(path)
    else:
        clip = render_clip(rng, item.appearance, item.motion, spec.num_frames, spec.resolution)
        encode(path, clip, spec.fps)


def encode(path: Path, frames_THWC: npt.NDArray[np.uint8], fps: int) -> None:
    """Write an H.264 file that is cheap to decode from any frame: short closed groups, no loop filter, no B-frames."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps), options=_CODEC_OPTIONS)
        stream.height, stream.width = frames_THWC.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = _GOP
        stream.codec_context.max_b_frames = 0
        for frame_HWC in frames_THWC:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame_HWC, format="rgb24")))
        container.mux(stream.encode(None))


def _write_lists(root: Path, items: list[_Item]) -> None:
    clips = [item for item in items if item.motion is not None]
    stills = [item for item in items if item.motion is None]
    tasks: dict[str, tuple[Sequence[str], list[tuple[_Item, int | None]]]] = {
        "appearance": (APPEARANCES, [(item, item.appearance) for item in clips]),
        "motion": (MOTIONS, [(item, item.motion) for item in clips]),
        "stills": (APPEARANCES, [(item, item.appearance) for item in stills]),
    }
    for task, (classes, rows) in tasks.items():
        (root / f"classes_{task}.txt").write_text("\n".join(classes) + "\n", encoding="utf-8")
        with (root / f"demo_{task}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "label", "split"])
            writer.writerows((item.path, label, item.split) for item, label in rows)
