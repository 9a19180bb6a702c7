"""Clips per second and core: the pretraining source (decode, crop, resize, flip) over bare decord on the same frames.

    python benchmarks/decode.py                        # clips made for the purpose, two sizes
    python benchmarks/decode.py FOLDER_OR_CSV          # own videos, those that decord decodes exactly
    python benchmarks/decode.py FOLDER_OR_CSV --num-frames 8 --frame-step 2 --resolution 64

Both sides take turns over the same frames of the same files. Times are CPU seconds of the whole process, decord's
threads included, best of the repeats for each clip: other work on the machine then disturbs the ratio little.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
import decord
import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from vjepa_exp.data.clips import clip_frames
from vjepa_exp.data.index import index
from vjepa_exp.data.manifest import Manifest
from vjepa_exp.data.readers import decode
from vjepa_exp.data.source import PretrainSource
from vjepa_exp.spec.data import ClipSpec, DataSpec, MixtureEntry
from vjepa_models.keyed_rng import keyed_rng

Frames = npt.NDArray[np.int64]
SEED = 0
BATCH = 64


def make_videos(folder: Path, width: int, height: int, frames: int, gop: int) -> Path:
    """A dozen H.264 videos of drifting textures."""
    rng = np.random.default_rng(SEED)
    folder.mkdir()
    for number in range(12):
        texture = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        with av.open(str(folder / f"{number:02d}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"crf": "23", "g": str(gop)})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for i in range(frames):
                frame = av.VideoFrame.from_ndarray(np.roll(texture, 2 * i, axis=1), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    return folder


def bare_decord(path: str, frames: Frames) -> npt.NDArray[np.uint8]:
    """The frames of a clip as a notebook would fetch them."""
    return decord.VideoReader(path, num_threads=1).get_batch(frames.tolist()).asnumpy()


def cpu_ms(function: Callable[[], object]) -> float:
    """CPU milliseconds of this process, all its threads, during a call."""
    start = time.process_time()
    function()
    return (time.process_time() - start) * 1e3


def measure(name: str, manifest: Manifest, clip: ClipSpec, clips: int, repeats: int) -> None:
    """Print one line: both sides, their ratio, and what of the source is reading."""
    source = PretrainSource([(manifest, None)], DataSpec(mixture=(MixtureEntry(dataset="bench"),), clip=clip), SEED)
    lengths = {manifest.entry(row).path: manifest.entry(row).frames for row in range(len(manifest))}
    ms = np.full((3, clips // BATCH), np.inf)
    for turn in range(repeats * ms.shape[1]):
        batch = turn % ms.shape[1]
        positions = np.arange(batch * BATCH, (batch + 1) * BATCH)
        wanted = []
        for position, path in zip(positions.tolist(), source.load(positions)["path"].tolist(), strict=True):
            starts = keyed_rng(SEED, "clip", position).random(1)  # as the source draws them
            wanted.append((path, np.unique(clip_frames(lengths[path], clip, 1, starts, overlap=False))))
        times = [
            cpu_ms(partial(source.load, positions)),
            cpu_ms(partial(_each, bare_decord, wanted)),
            cpu_ms(partial(_each, partial(decode, reader="decord"), wanted)),
        ]
        ms[:, batch] = np.minimum(ms[:, batch], times)
    ours, bare, reading = ms.mean(axis=1) / BATCH
    print(
        f"{name}: {len(manifest)} files, {clip.num_frames} frames of {clip.resolution} px: "
        f"source {1e3 / ours:.1f}, bare decord {1e3 / bare:.1f} clips/s/core, ratio {bare / ours:.2f} "
        f"(CPU ms per clip: source {ours:.2f} of which reading {reading:.2f}; bare {bare:.2f})"
    )


def _each(read: Callable[[str, Frames], object], wanted: list[tuple[str, Frames]]) -> None:
    for path, frames in wanted:
        read(path, frames)


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="?", type=Path, help="folder or list of videos; default: makes its own")
    parser.add_argument("--num-frames", type=int, default=16)
    parser.add_argument("--frame-step", type=int, default=4)
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--clips", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    if args.videos:
        manifest = index(args.videos)
        manifest = manifest.take(np.flatnonzero(pc.equal(manifest.table["reader"], "decord").to_numpy()))
        clip = ClipSpec(num_frames=args.num_frames, frame_step=args.frame_step, resolution=args.resolution)
        measure(args.videos.name, manifest, clip, args.clips, args.repeats)
        return
    with tempfile.TemporaryDirectory() as scratch:
        small = index(make_videos(Path(scratch) / "small", 64, 64, 32, gop=12))
        measure("demo-like", small, ClipSpec(num_frames=8, frame_step=2, resolution=64), args.clips, args.repeats)
        large = index(make_videos(Path(scratch) / "large", 336, 256, 300, gop=250))
        measure("Kinetics-like", large, ClipSpec(), args.clips, args.repeats)


if __name__ == "__main__":
    main()
