"""Signatures of videos that survive re-encoding and scaling: a few small grey frames at fixed shares of the duration.

Of each frame a 64-bit hash (the signs of its lowest cosine coefficients against their median) serves to find pairs, and
the small frames themselves to judge them. Seen through: other codecs and sizes, a squeezed picture, other brightness
and contrast, black bars, slightly other frame rates. At times: half the frame rate, a crop of a few pixels. Not seen
through: mirrored copies, larger crops, other speed within a video, and a clip that is cut out of a longer video
(`benchmarks/results/` has the figures).

Legend: P pairs of videos, F frames of a signature, S side of a small frame, H its side when it is hashed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from einops import rearrange, reduce
from PIL import Image

from vjepa_exp.data.packets import Track, indexable, open_video
from vjepa_exp.data.probe import IMAGE_SUFFIXES
from vjepa_exp.data.reader_pyav import frames_in_turn
from vjepa_exp.data.readers import DecodeError, Frames, FramesTHWC, decode

Floats = npt.NDArray[np.floating[Any]]
Hashes = npt.NDArray[np.uint64]
Greys = npt.NDArray[np.uint8]

FRAMES = 8
SIDE = 16
_HASHED = 32  # side of the frames whose cosine coefficients are taken
_LOW = 8  # coefficients along each axis
_LEAST_CONTRAST = 4.0  # standard deviation below which a frame is flat: its hash says nothing
_BLACK = 20.0  # mean grey of a row or column that may belong to a bar (video black is 0 or 16)
_LEAST_PICTURE = 0.4  # share of a side that bars leave
_MOTION = 4.0  # mean square, in grey levels, at which still and moving parts count alike
_CODING_NOISE = 1.0  # mean square of what encoders add to small frames
_STILL_WEIGHT = 4.0  # still parts are compared more strictly: they agree more easily


class Signature(NamedTuple):
    """What is kept of a video or image."""

    hashes: Hashes
    """[F]; 0 for a flat frame, which is compared with none."""
    grey: Greys
    """[F, S, S]"""


def signature(path: str) -> Signature:
    """Look at a video or image.

    Raises:
        DecodeError: it cannot be read.
    """
    image = Path(path).suffix.lower() in IMAGE_SUFFIXES
    places_F = np.zeros(FRAMES, dtype=np.int64) if image else _places(path)
    wanted, back = np.unique(places_F, return_inverse=True)
    grey_FHH = _grey(decode(path, wanted, "image" if image else "pyav"))[back]
    hashes = np.array([_hash(grey_HH) for grey_HH in grey_FHH], dtype=np.uint64)
    step = _HASHED // SIDE
    small = reduce(grey_FHH, "f (y a) (x b) -> f y x", "mean", a=step, b=step)
    return Signature(hashes, np.round(small).astype(np.uint8))


def _places(path: str) -> Frames:
    """Numbers of the frames shown in the middle of each of F equal parts of the duration."""
    shares = (np.arange(FRAMES) + 0.5) / FRAMES
    with open_video(path) as container:
        track = Track.read(container) if indexable(container) else None
        times = track.frame_times if track is not None and track.indexed else None
    frames = sum(1 for _ in frames_in_turn(path)) if times is None else len(times)
    if not frames:
        raise DecodeError("short", path, "no frame")
    if times is None or frames < 3:
        return (shares * frames).astype(np.int64)
    length = (times[-1] - times[0]) * frames / (frames - 1)
    return np.searchsorted(times, times[0] + shares * length, side="right") - 1


def _grey(frames_THWC: FramesTHWC) -> Floats:
    """The frames without black bars, grey and small, [T, H, H]."""
    grey_THW = np.stack([np.asarray(Image.fromarray(frame).convert("L")) for frame in frames_THWC])
    rows, columns = (_picture(grey_THW.mean(axis=axis).max(axis=0)) for axis in (2, 1))
    size = (_HASHED, _HASHED)
    cut = (Image.fromarray(np.ascontiguousarray(grey_HW[rows, columns])) for grey_HW in grey_THW)
    return np.stack([np.asarray(image.resize(size, Image.Resampling.BOX), dtype=np.float32) for image in cut])


def _picture(brightest: Floats) -> slice:
    """The part of a side that lies between bars, from the brightest mean that each row or column ever has."""
    lit = np.flatnonzero(brightest > _BLACK)
    if not len(lit) or lit[-1] + 1 - lit[0] < _LEAST_PICTURE * len(brightest):
        return slice(None)
    return slice(int(lit[0]), int(lit[-1]) + 1)


def _cosines() -> Floats:
    """The lowest rows of the discrete cosine transform, [low, H]."""
    k, n = np.arange(_LOW)[:, None], np.arange(_HASHED)[None]
    return np.cos(np.pi * k * (2 * n + 1) / (2 * _HASHED))


_COSINES = _cosines()


def _hash(grey_HH: Floats) -> int:
    if grey_HH.std() < _LEAST_CONTRAST:
        return 0
    low = rearrange(_COSINES @ grey_HH @ _COSINES.T, "y x -> (y x)")
    bits = low > np.median(low)
    return int(np.packbits(bits).view(">u8")[0])


def distance(one_PFSS: Greys, other_PFSS: Greys) -> Floats:
    """How far the pictures of pairs of videos differ, [P]: 0 not at all, about 1 for unrelated ones.

    What moves tells more than what stands: other actions before one background differ in nothing else. So it is the
    share of the moving part (each small frame without the mean of all) that the other video does not account for,
    at any brightness and contrast; or, where little moves, that of the still part.

    Args:
        one_PFSS: small frames of one video of each pair.
        other_PFSS: of the other one.
    """
    (still, moving), (other_still, other_moving) = (_parts(x.astype(np.float32)) for x in (one_PFSS, other_PFSS))
    power = np.sqrt(np.mean(moving * moving, axis=1) * np.mean(other_moving * other_moving, axis=1))
    resting = _MOTION / (power + _MOTION)
    by_motion, by_rest = _apart(moving, other_moving, _CODING_NOISE), _apart(still, other_still, _MOTION)
    return np.maximum(by_motion, _STILL_WEIGHT * resting * by_rest)


def _parts(frames_PFSS: Floats) -> tuple[Floats, Floats]:
    """Mean frame and what the frames differ from it, [P, values], both around the mean grey."""
    centred = frames_PFSS - reduce(frames_PFSS, "p f y x -> p 1 1 1", "mean")
    still = reduce(centred, "p f y x -> p 1 y x", "mean")
    return rearrange(still, "p f y x -> p (f y x)"), rearrange(centred - still, "p f y x -> p (f y x)")


def _apart(one: Floats, other: Floats, noise: float) -> Floats:
    """1 - correlation, [P]; `noise`, a mean square that both have in common, keeps it from being about nothing."""
    common = noise * one.shape[1]
    product, power, others = ((a * b).sum(axis=1) + common for a, b in ((one, other), (one, one), (other, other)))
    return 1 - product / np.sqrt(power * others)
