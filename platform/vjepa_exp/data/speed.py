"""How fast the readers are on the same clips of two sets of files, such as before and after encoding them again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple, cast

import numpy as np

from vjepa_exp.data.clips import clip_frames
from vjepa_exp.data.deadline import within
from vjepa_exp.data.manifest import Entry, Manifest
from vjepa_exp.data.readers import VIDEO_READERS, DecodeError, Frames, Reader, decode, load
from vjepa_exp.spec.data import ClipSpec

FILES, REPEATS = 12, 2
_DEADLINE_S = 60.0


class Speed(NamedTuple):
    """Clips for each second of CPU time, all threads of the reader counted, over the files on which it is exact.

    Attributes:
        reader: its name.
        before: of the first set, None where it is exact on none of the files.
        after: of the second set.
        files: how many files were tried.
    """

    reader: Reader
    before: float | None
    after: float | None
    files: int


def speeds(before: Manifest, after: Manifest, clip: ClipSpec) -> list[Speed]:
    """Decode the same frames of a few files from both sets in turns, with every reader that is here.

    Args:
        before: a set.
        after: another one whose rows are the same videos.
        clip: which frames; the clip lies in the middle of its video.
    """
    good = before.column("decodable") & after.column("decodable") & ~after.images()
    rows = np.flatnonzero(good)
    chosen = rows[np.unique(np.linspace(0, len(rows) - 1, min(FILES, len(rows))).astype(int))] if len(rows) else rows
    pairs = [(before.entry(row), after.entry(row)) for row in chosen.tolist()]
    return [_speed(reader, pairs, clip) for reader in VIDEO_READERS if _here(reader) and pairs]


def _speed(reader: Reader, pairs: list[tuple[Entry, Entry]], clip: ClipSpec) -> Speed:
    seconds: tuple[list[float], list[float]] = ([], [])
    for pair in pairs:
        frames = np.unique(clip_frames(pair[0].frames, clip, 1, None, overlap=False, rate=pair[0].fps))
        best = [np.inf, np.inf]
        for _ in range(REPEATS):
            for side, entry in enumerate(pair):
                if reader in entry.readers.split(","):
                    best[side] = min(best[side], _cpu_s(reader, entry.path, frames))
        for side, least in enumerate(best):
            seconds[side].extend([least] if np.isfinite(least) else [])
    old, new = (len(times) / sum(times) if times else None for times in seconds)
    return Speed(reader, old, new, len(pairs))


def _cpu_s(reader: Reader, path: str, frames: Frames) -> float:
    begun = time.process_time()
    try:
        within(_DEADLINE_S, cast("Callable[..., object]", decode), path, frames, reader)
    except (DecodeError, TimeoutError):
        return float("inf")
    return time.process_time() - begun


def _here(reader: Reader) -> bool:
    try:
        load(reader)
    except (ImportError, OSError, RuntimeError):
        return False
    return True
