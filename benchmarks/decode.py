"""CPU time of a clip: our readers and the pretraining source over bare decord, beside what libav itself needs.

    python benchmarks/decode.py                        # 340x256 H.264 of 10 s, made for the purpose, GOP 12 and 250
    python benchmarks/decode.py FOLDER_OR_CSV          # own videos, those that all readers decode exactly
    python benchmarks/decode.py --clips 8 --repeats 1  # a look: a minute or two, most of it encoding

All sides take turns at each clip, on the same frames of the same files. Times are CPU milliseconds of the whole
process, the threads of decord included, the best of the repeats for each clip and the mean over the clips: other work
on the machine then moves the ratios little and the times more, so results are to be kept from a quiet machine. Files
are read once before and lie in the page cache. 'libav, all packets' decodes every packet from the key frame to the last
wanted one and converts nothing; a reader that leaves packets out can be faster.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
import decord
import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
from PIL import Image

from vjepa_exp.data.clips import clip_frames
from vjepa_exp.data.index import index
from vjepa_exp.data.manifest import Manifest
from vjepa_exp.data.readers import VIDEO_READERS, decode
from vjepa_exp.data.source import PretrainSource
from vjepa_exp.spec.data import ClipSpec, DataSpec, MixtureEntry
from vjepa_models.keyed_rng import keyed_rng

Frames = npt.NDArray[np.int64]
Side = Callable[[int, str, Frames], object]
"""What is measured: the clip at a position of the stream, its file, its frames."""

SEED = 0
BARE = "bare decord"


def make_videos(folder: Path, width: int, height: int, frames: int, gop: int, count: int) -> Path:
    """H.264 videos of soft textures that drift over each other, with a cut in the middle and some grain."""
    rng = np.random.default_rng(SEED)
    folder.mkdir()
    for number in range(count):
        with av.open(str(folder / f"{number:02d}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=30, options={"crf": "19", "g": str(gop)})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for i in range(frames):
                if i % (frames // 2) == 0:
                    back, front = (_texture(rng, cell, 2 * width, 2 * height) for cell in (40, 12))
                drift = np.roll(back, (i, -2 * i), (0, 1))[:height, :width]
                drift[48:160, 80:240] = np.roll(front, (-i, 3 * i), (0, 1))[48:160, 80:240]
                grain = rng.normal(0, 8, drift.shape)
                frame = av.VideoFrame.from_ndarray(np.clip(drift + grain, 0, 255).astype(np.uint8), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    return folder


def _texture(rng: np.random.Generator, cell: int, width: int, height: int) -> npt.NDArray[np.uint8]:
    coarse = Image.fromarray(rng.integers(0, 256, (height // cell, width // cell, 3), dtype=np.uint8))
    return np.array(coarse.resize((width, height), Image.Resampling.BICUBIC))


def bare_decord(path: str, frames: Frames) -> npt.NDArray[np.uint8]:
    """The frames of a clip as a notebook would fetch them."""
    return decord.VideoReader(path, num_threads=1).get_batch(frames.tolist()).asnumpy()


def libav_all_packets(path: str, frames: Frames) -> None:
    """Decode from the key frame before to the last wanted frame, leave nothing out, convert nothing."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        packets = [packet for packet in container.demux(stream) if packet.size]
        times = sorted(packet.pts for packet in packets if packet.pts is not None)
        wanted = {times[i] for i in frames.tolist()}
        keys = [i for i, packet in enumerate(packets) if packet.is_keyframe]
        for key, following in pairwise([*keys, len(packets)]):
            last = max((i for i in range(key, following) if packets[i].pts in wanted), default=None)
            if last is not None:
                for packet in [*packets[key : last + 1], None]:
                    stream.codec_context.decode(packet)
                stream.codec_context.flush_buffers()


def cpu_ms(function: Callable[[], object]) -> float:
    """CPU milliseconds of this process, all its threads, during a call."""
    start = time.process_time()
    function()
    return (time.process_time() - start) * 1e3


def measure(name: str, manifest: Manifest, clip: ClipSpec, clips: int, repeats: int) -> None:
    """Print a table of all sides."""
    data = DataSpec(mixture=(MixtureEntry(dataset="bench"),), clip=clip)
    pyav, decord_source = (PretrainSource([(manifest, None)], data, SEED, reader) for reader in ("pyav", "decord"))
    sides: dict[str, Side] = {
        BARE: lambda position, path, frames: bare_decord(path, frames),
        "reader decord": lambda position, path, frames: decode(path, frames, "decord"),
        "reader pyav": lambda position, path, frames: decode(path, frames, "pyav"),
        "libav, all packets": lambda position, path, frames: libav_all_packets(path, frames),
        "source decord": lambda position, path, frames: decord_source.load(np.array([position])),
        "source pyav": lambda position, path, frames: pyav.load(np.array([position])),
    }
    lengths = {manifest.entry(row).path: manifest.entry(row).frames for row in range(len(manifest))}
    paths = pyav.load(np.arange(clips))["path"].tolist()
    ms = np.full((len(sides), clips), np.inf)
    for _ in range(repeats):
        for position, path in enumerate(paths):
            starts = keyed_rng(SEED, "clip", position).random(1)  # as the source draws them
            frames = np.unique(clip_frames(lengths[path], clip, 1, starts, overlap=False))
            for place, side in enumerate(sides.values()):
                ms[place, position] = min(ms[place, position], cpu_ms(partial(side, position, path, frames)))
    _print(name, manifest, clip, dict(zip(sides, ms.mean(axis=1).tolist(), strict=True)))


def _print(name: str, manifest: Manifest, clip: ClipSpec, ms: dict[str, float]) -> None:
    print(f"{name}: {len(manifest)} files, clips of {clip.num_frames} frames, source to {clip.resolution} px")
    print(f"{'':20}{'CPU ms/clip':>12}{'clips/s/core':>14}{'x bare decord':>15}{'x libav':>9}")
    for side, mean in ms.items():
        over = f"{ms[BARE] / mean:15.2f}{ms['libav, all packets'] / mean:9.2f}"
        print(f"{side:20}{mean:12.1f}{1e3 / mean:14.1f}{over}")


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="?", type=Path, help="folder or list of videos; default: makes its own")
    parser.add_argument("--num-frames", type=int, default=16)
    parser.add_argument("--frame-step", type=int, default=4)
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--clips", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    clip = ClipSpec(num_frames=args.num_frames, frame_step=args.frame_step, resolution=args.resolution)
    print(f"load average {os.getloadavg()[0]:.1f}, decord {decord.__version__}, PyAV {av.__version__}")
    if args.videos:
        manifest = index(args.videos)
        plain = pc.equal(manifest.table["readers"], ",".join(VIDEO_READERS)).to_numpy()
        measure(args.videos.name, manifest.take(np.flatnonzero(plain)), clip, args.clips, args.repeats)
        return
    with tempfile.TemporaryDirectory() as scratch:
        for gop in (12, 250):
            folder = make_videos(Path(scratch) / f"gop{gop}", 340, 256, 300, gop, count=8)
            measure(f"340x256 H.264, 10 s, GOP {gop}", index(folder), clip, args.clips, args.repeats)


if __name__ == "__main__":
    main()
