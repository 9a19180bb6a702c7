"""Clips per second and core into a training worker: the stream over bare decord and over the reference's loading.

    python benchmarks/data_plane.py                   # makes its videos; under an hour on two cores
    python benchmarks/data_plane.py FOLDER_OR_CSV     # own videos, those that all readers decode exactly
    python benchmarks/data_plane.py --quick           # whether it works; its figures mean nothing

The videos that it makes are like those of Kinetics at 340x256: 10 s of H.264 at 30 frames a second, GOP 12 and 250,
soft textures that drift over each other with a cut and some grain, at a rate that is printed. Every side decodes,
crops and resizes the same clips (16 frames, every 4th, to 224 pixels) on the same cores:

- bare decord: as many processes as cores, each `VideoReader`, `get_batch`, crop and resize on bytes; nothing is handed
  on
- stream: Ray Train with one worker that takes batches of the project's own stream and drops them, as many decoders as
  cores; Ray's own processes and the worker share the same cores
- DataLoader: PyTorch's, as many workers as cores, doing what the reference does: all frames at full size to float32,
  then crop and resize
- libav: as many processes as cores that decode every packet from the key frame to the last wanted frame, and do nothing
  with it (not a limit: the PyAV reader leaves packets out)

Each measurement is a process of its own with its own children, timed after a warm-up of as many batches as the stream
decodes ahead, and before its end. Sides take turns; a ratio is that of one round, and the median over the rounds is
given with the least and the greatest. CPU time is that of all processes of a side. Memory is measured in runs of their
own: the sum over all processes of a side of what each alone uses plus its share of what several use (PSS), and of all
that each sees (RSS, which counts shared pages again and again). Files were just written and lie in the page cache.
Results are to be kept from a quiet machine. Needs Linux.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from vjepa_exp.runtime.environment import prepare as prepare_environment

# Ray reads its environment when it is imported:
# ruff: noqa: E402
prepare_environment(None, verbose=False)

import decord
import numpy as np
import psutil
import pyarrow.compute as pc
import torch
import torch.nn.functional as F
from decode import libav_all_packets, make_videos
from torch.utils.data import DataLoader, Dataset

from vjepa_exp.data.augment import augment_clip
from vjepa_exp.data.clips import clip_frames
from vjepa_exp.data.index import index
from vjepa_exp.data.manifest import Entry, Manifest, read_manifest, write_manifest
from vjepa_exp.data.prepare import prepare
from vjepa_exp.data.prepare_folder import Owner
from vjepa_exp.data.readers import VIDEO_READERS
from vjepa_exp.data.reencode import Settings
from vjepa_exp.data.source import PretrainSource
from vjepa_exp.data.transform import random_box
from vjepa_exp.graph.provenance import environment
from vjepa_exp.runtime.rows import Rows, StreamOptions
from vjepa_exp.spec.augment import CropFlip
from vjepa_exp.spec.data import DataSpec, MixtureEntry
from vjepa_exp.spec.execution import ExecutionSpec, ReaderChoice
from vjepa_models.keyed_rng import keyed_rng

SEED = 0
DATA = DataSpec(mixture=(MixtureEntry(dataset="bench"),))
LATE = 10**6
"""A step from which a run may have to go on."""

BARE, LOADER, LIBAV = "bare decord", "DataLoader", "libav, all packets"
DECORD, PYAV = "stream, decord", "stream, pyav"
READERS: dict[str, ReaderChoice] = {DECORD: "decord", PYAV: "pyav"}


@dataclass(frozen=True)
class Work:
    """What one measurement does.

    Attributes:
        side: which of the sides.
        manifest: of the videos.
        cores: that all its processes share.
        batch: clips of a batch.
        warm_up: batches before the clock starts.
        batches: that are timed.
        first: number of the first batch.
    """

    side: str
    manifest: str
    cores: int
    batch: int
    warm_up: int
    batches: int
    first: int = 0

    @property
    def source(self) -> PretrainSource:
        """The clips."""
        return PretrainSource([(read_manifest(Path(self.manifest)), None)], DATA, SEED, READERS.get(self.side, "auto"))

    @property
    def num_batches(self) -> int:
        """More than are timed: the end, at which some processes have nothing to do, is not."""
        return self.first + 2 * self.warm_up + self.batches


@dataclass(frozen=True)
class Found:
    """What one measurement found: clips a second, CPU milliseconds a clip, seconds to the first batch."""

    clips_per_s: float
    cpu_ms: float
    first_batch_s: float


def cpu_s(root: int) -> float:
    """CPU seconds of a process and all below it so far, those that ended and were waited for included."""
    top = psutil.Process(root)
    total = 0.0
    for process in [top, *top.children(recursive=True)]:
        try:
            total += sum(process.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total


def timed(work: Work, batches: Iterator[Any], root: int, begun: float) -> Found:
    """Take batches and drop them; the clock runs between two of them."""
    first = start = spent = 0.0
    for number, _ in enumerate(batches, 1):
        now = time.time()
        if number == 1:
            first = now - begun
        if number == work.warm_up:
            start, spent = now, cpu_s(root)
        if number == work.warm_up + work.batches:
            clips = work.batches * work.batch
            return Found(clips / (now - start), 1e3 * (cpu_s(root) - spent) / clips, first)
    raise RuntimeError(f"{number} batches are too few")


# ---- the sides


def clip_of(source: PretrainSource, position: int) -> tuple[Entry, np.ndarray, np.random.Generator]:
    """File and frames of a clip as the source chooses them, and the generator for its crop."""
    entry, rng = source.entries(np.array([position]))[0], keyed_rng(SEED, "clip", position)
    return entry, clip_frames(entry.frames, DATA.clip, 1, rng.random(1), overlap=False)[0], rng


def bare_decord(source: PretrainSource, position: int) -> None:
    """Fetch, crop and resize a clip as a careful notebook would."""
    entry, frames, rng = clip_of(source, position)
    reader = decord.VideoReader(entry.path, num_threads=1)
    pixels = reader.get_batch(frames.tolist()).asnumpy()
    del reader  # while it lives, it decodes on
    assert isinstance(DATA.augment, CropFlip)
    augment_clip(pixels, DATA.augment, DATA.clip.resolution, rng, antialias=False)


def libav(source: PretrainSource, position: int) -> None:
    """Decode what a clip needs and nothing else."""
    entry, frames, _ = clip_of(source, position)
    libav_all_packets(entry.path, np.unique(frames))


class ReferenceClips(Dataset[torch.Tensor]):
    """Clips as the released code loads them, float32 [C, T, H, W]."""

    def __init__(self, source: PretrainSource, length: int) -> None:
        self._source, self._length = source, length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, position: int) -> torch.Tensor:
        entry, frames, rng = clip_of(self._source, position)
        reader = decord.VideoReader(entry.path, num_threads=1)
        clip_THWC = reader.get_batch(frames.tolist()).asnumpy()
        del reader
        clip_CTHW = torch.from_numpy(clip_THWC).float().permute(3, 0, 1, 2)
        assert isinstance(DATA.augment, CropFlip)
        height, width = clip_CTHW.shape[2:]
        box = random_box(height, width, DATA.augment.scale, DATA.augment.ratio, rng)
        part = clip_CTHW[:, :, box.top : box.top + box.height, box.left : box.left + box.width]
        resized = F.interpolate(part, (DATA.clip.resolution,) * 2, mode="bilinear")
        return resized.flip(3) if rng.random() < 0.5 else resized


def processes(work: Work, one: Callable[[PretrainSource, int], None]) -> Found:
    """As many processes as cores, each with every so-manieth clip; their rates add up."""
    begun = time.time()
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(work.cores), context.Queue()
    source = work.source

    def serve(rank: int) -> None:
        torch.set_num_threads(1)
        positions = range(work.first * work.batch + rank, work.num_batches * work.batch, work.cores)
        warm, count = (n * work.batch // work.cores for n in (work.warm_up, work.batches))
        for position in positions[:warm]:
            one(source, position)
        barrier.wait()
        start, spent = time.perf_counter(), time.process_time()
        for position in positions[warm : warm + count]:
            one(source, position)
        wall, cpu = time.perf_counter() - start, time.process_time() - spent
        results.put((count / wall, cpu, count))

    children = [context.Process(target=serve, args=(rank,)) for rank in range(work.cores)]
    for child in children:
        child.start()
    rates, cpus, counts = zip(*(results.get() for _ in children), strict=True)
    for child in children:
        child.join()
    return Found(sum(rates), 1e3 * sum(cpus) / sum(counts), time.time() - begun)


def loader(work: Work) -> Found:
    """The DataLoader."""
    begun = time.time()
    clips = ReferenceClips(work.source, work.num_batches * work.batch)
    batches = DataLoader(clips, work.batch, num_workers=work.cores, worker_init_fn=lambda _: torch.set_num_threads(1))
    return timed(work, iter(batches), os.getpid(), begun)


def in_ray(config: dict[str, Any]) -> None:
    """The trainer: takes what the stream gives."""
    from vjepa_exp.runtime.stream import stream

    work: Work = config["work"]
    source = work.source
    rows = Rows(work.batch, work.num_batches)
    options = StreamOptions(work.cores, ExecutionSpec().steps_per_block, source.row_bytes, config["notes"])
    found = timed(work, stream(source, rows, options, first=work.first), config["root"], config["begun"])
    Path(config["out"]).write_text(json.dumps(asdict(found)), encoding="utf-8")


def streamed(work: Work) -> Found:
    """The project's stream inside Ray Train, as a run starts it."""
    begun = time.time()
    from ray.train import LoggingConfig, RunConfig, ScalingConfig

    from vjepa_exp.runtime.session import ray_session
    from vjepa_exp.runtime.trainer import StreamTrainer

    with tempfile.TemporaryDirectory() as folder, ray_session(None, cpus=1 + work.cores, gpus=0):
        out = Path(folder) / "found.json"
        config = {"work": work, "out": str(out), "root": os.getpid(), "begun": begun, "notes": Path(folder) / "notes"}
        logging = LoggingConfig(log_level="ERROR")
        run = RunConfig(name="run", storage_path=folder, logging_config=logging)  # type: ignore[call-arg]
        scaling = ScalingConfig(num_workers=1)
        StreamTrainer(in_ray, train_loop_config=config, scaling_config=scaling, run_config=run).fit()
        return Found(**json.loads(out.read_text(encoding="utf-8")))


SIDES: dict[str, Callable[[Work], Found]] = {
    BARE: lambda work: processes(work, bare_decord),
    LIBAV: lambda work: processes(work, libav),
    LOADER: loader,
    DECORD: streamed,
    PYAV: streamed,
}


# ---- one measurement is one process


def measure(work: Work) -> Found:
    """Do it in a new process on the first cores of this machine."""
    return Found(**json.loads(_start(work).communicate()[0]))


def _start(work: Work) -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, "--work", json.dumps(asdict(work))]
    cores = sorted(os.sched_getaffinity(0))[: work.cores]
    return subprocess.Popen(command, stdout=subprocess.PIPE, preexec_fn=lambda: os.sched_setaffinity(0, cores))


def peak_mib(work: Work) -> tuple[float, float]:
    """The most memory that all processes of a measurement held together: PSS and RSS in MiB."""
    child = _start(work)
    reading = threading.Thread(target=child.communicate)  # else it could wait for us
    reading.start()
    most = (0.0, 0.0)
    while child.poll() is None:
        pss = rss = 0
        for process in _tree(child.pid):
            try:
                info = process.memory_full_info()
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            pss, rss = pss + info.pss, rss + info.rss
        most = max(most[0], pss / 2**20), max(most[1], rss / 2**20)
        time.sleep(0.25)
    reading.join()
    return most


def _tree(root: int) -> list[psutil.Process]:
    try:
        top = psutil.Process(root)
        return [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


# ---- all of them, in turns


@dataclass(frozen=True)
class Videos:
    """Some videos before and after `data prepare`, where that is measured."""

    name: str
    manifest: str
    prepared: str | None


def rounds_of(videos: Videos, common: dict[str, int], rounds: int) -> dict[str, list[Found]]:
    """Measure every side of some videos, in turns."""
    sides = {side: Work(side, videos.manifest, **common) for side in SIDES}
    if videos.prepared:
        sides |= {f"{side}, prepared": Work(side, videos.prepared, **common) for side in (DECORD, PYAV)}
    found: dict[str, list[Found]] = {side: [] for side in sides}
    for number in range(rounds):
        order = list(sides) if number % 2 == 0 else list(sides)[::-1]
        for side in order:
            found[side].append(measure(sides[side]))
            print(f"  round {number + 1}: {side}: {found[side][-1].clips_per_s:.1f} clips/s", file=sys.stderr)
    return found


def print_table(videos: Videos, found: dict[str, list[Found]], cores: int) -> None:
    """Medians over the rounds, and the ratios of each round."""
    print(f"\n{videos.name}: {described(Path(videos.manifest))}")
    if videos.prepared:
        print(f"{'prepared:':{len(videos.name) + 1}} {described(Path(videos.prepared))}")
    header = f"{'clips/s/core':>13}{'CPU ms/clip':>13}{'over bare decord':>24}{'over DataLoader':>24}{'CPU x bare':>12}"
    print(f"{'':26}{header}")
    for side, runs in found.items():
        rate = statistics.median(run.clips_per_s for run in runs) / cores
        cpu = statistics.median(run.cpu_ms for run in runs)
        over = [
            spread(run.clips_per_s / other.clips_per_s for run, other in zip(runs, found[base], strict=True))
            for base in (BARE, LOADER)
        ]
        spared = statistics.median(other.cpu_ms / run.cpu_ms for run, other in zip(runs, found[BARE], strict=True))
        print(f"{side:26}{rate:13.2f}{cpu:13.1f}{over[0]:>24}{over[1]:>24}{spared:12.2f}")


def spread(values: Iterator[float]) -> str:
    """Median, least and greatest."""
    kept = list(values)
    return f"{statistics.median(kept):.2f} ({min(kept):.2f} to {max(kept):.2f})"


def described(path: Path) -> str:
    """Files, size and bit rate."""
    manifest = read_manifest(path)
    size, frames, fps = (manifest.column(name) for name in ("bytes", "frames", "fps"))
    rate = 8 * size.sum() / (frames / fps).sum() / 1e6
    return f"{len(manifest)} files of {frames.mean():.0f} frames, {size.sum() / 2**20:.1f} MiB, {rate:.2f} Mbit/s"


def print_memory(videos: Videos, common: dict[str, int]) -> None:
    """Peak memory of stream and DataLoader."""
    works = {side: Work(side, videos.manifest, **common) for side in (PYAV, LOADER)}
    most = {side: peak_mib(work) for side, work in works.items()}
    print("\npeak memory of all processes, MiB        PSS       RSS")
    for side, (pss, rss) in most.items():
        print(f"{side:36}{pss:8.0f}{rss:10.0f}")
    print(f"{'stream over DataLoader':36}{most[PYAV][0] / most[LOADER][0]:8.2f}{most[PYAV][1] / most[LOADER][1]:10.2f}")


def print_starts(videos: Videos, common: dict[str, int], rounds: int) -> None:
    """Seconds until there is something to train on."""
    few = {**common, "warm_up": 1, "batches": 1}
    print("\nseconds from the start of the program, imports left out, to the first batch (Ray's own start included)")
    for name, side, first in (
        ("stream, from step 0", PYAV, 0),
        (f"stream, from step {LATE}", PYAV, LATE),
        ("DataLoader", LOADER, 0),
    ):
        seconds = (measure(Work(side, videos.manifest, **few, first=first)).first_batch_s for _ in range(rounds))
        print(f"{name:36}{spread(seconds)}")


def warm_up_batches(cores: int, batch: int) -> int:
    """As many as the stream decodes ahead, since those may be there when the worker begins to take them."""
    from vjepa_exp.runtime.stream import BLOCKS_IN_FLIGHT, MAX_BLOCK_BYTES

    clip_bytes = DATA.clip.num_frames * DATA.clip.resolution**2 * 3
    ahead = (BLOCKS_IN_FLIGHT + cores) * MAX_BLOCK_BYTES / (batch * clip_bytes)
    return cores * math.ceil(ahead / cores)


def make(scratch: Path, given: Path | None, quick: bool, speed_only: bool) -> Iterator[Videos]:
    """The videos, indexed and prepared."""
    if given:
        manifest = index(given)
        plain = pc.equal(manifest.table["readers"], ",".join(VIDEO_READERS)).to_numpy()
        sets = {given.name: manifest.take(np.flatnonzero(plain))}
    else:
        sizes = (340, 256, 90 if quick else 300)
        folders = {
            f"340x256 H.264, GOP {gop}": make_videos(scratch / f"gop{gop}", *sizes, gop, 2 if quick else 16)
            for gop in (12, 250)
        }
        sets = {name: index(folder) for name, folder in folders.items()}
    for number, (name, manifest) in enumerate(sets.items()):
        path, prepared = scratch / f"{number}.parquet", scratch / f"{number}_prepared.parquet"
        write_manifest(manifest, path)
        if not speed_only:
            owner = Owner(f"{number}_prepared", str(number), prepared)
            write_manifest(_prepared(manifest, scratch / f"{number}_prepared", owner), prepared)
        yield Videos(name, str(path), None if speed_only else str(prepared))


def _prepared(manifest: Manifest, folder: Path, owner: Owner) -> Manifest:
    from vjepa_exp.runtime.files import EachFile

    each = EachFile(deadline_s=3600.0)
    return prepare(manifest, folder, Settings(), {}, owner=owner, min_psnr=0.0, each=each).manifest


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="?", type=Path, help="folder or list of videos; default: makes its own")
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--batches", type=int, default=40, help="timed in each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a few clips of short videos")
    parser.add_argument("--speed-only", action="store_true", help="neither prepared videos nor memory nor starts")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work = Work(**json.loads(args.work))
        print(json.dumps(asdict(SIDES[work.side](work))))
        return
    batches, rounds = (2 * args.cores, 1) if args.quick else (args.batches, args.rounds)
    warm_up = warm_up_batches(args.cores, args.batch)
    common = {"cores": args.cores, "batch": args.batch, "warm_up": warm_up, "batches": batches}
    here = environment()
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {here['cpu']}, {args.cores} of {here['cores']} cores, ", end="")
    print(f"load average {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, ", end="")
    print(", ".join(f"{name} {here[name]}" for name in ("ray", "torch", "decord", "av")))
    with tempfile.TemporaryDirectory() as scratch:
        sets = list(make(Path(scratch), args.videos, args.quick, args.speed_only))
        for videos in sets:
            print_table(videos, rounds_of(videos, common, rounds), args.cores)
        if not args.speed_only:
            print_memory(sets[-1], common)
            print_starts(sets[-1], common, rounds)


if __name__ == "__main__":
    main()
