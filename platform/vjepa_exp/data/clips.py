"""Which frames make a clip: pure index arithmetic (method facts section 7)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vjepa_exp.spec.data import ClipSpec

Indices = npt.NDArray[np.int64]
Starts = npt.NDArray[np.float64]


def clip_frames(
    num_frames: int, clip: ClipSpec, segments: int, starts: Starts | None, *, overlap: bool, rate: float = 0.0
) -> Indices:
    """Frame numbers of `segments` clips spread over a video.

    Args:
        num_frames: frames of the video.
        clip: frames per clip, their distance, and whether to follow the released code or its intent.
        segments: clips; the video is cut into as many equal parts and each part gives one.
        starts: where in its part each clip starts, [segments] uniform in [0, 1); None: in the middle.
        overlap: a part shorter than a clip borrows from its neighbours (evaluation) instead of repeating its last
            frame (pretraining).
        rate: frames per second of the video, its average where that varies; asked for by `clip.fps` alone.

    Returns:
        int64 [segments, clip.num_frames].
    """
    if clip.indexing == "parity":
        return _parity(num_frames, clip, segments, starts, overlap)
    return _spaced(num_frames, _offsets(num_frames, clip, rate), segments, starts, overlap)


def _parity(num_frames: int, clip: ClipSpec, segments: int, starts: Starts | None, overlap: bool) -> Indices:
    """`num_frames` points on a line over num_frames * frame_step frames, rounded down."""
    assert clip.frame_step is not None
    count, step = clip.num_frames, clip.frame_step
    length, part = count * step, num_frames // segments
    i_S1 = np.arange(segments)[:, None]
    if part > length:
        start_S1 = _starts(part - length, segments, starts)
        end_S1 = start_S1 + length
        line_ST = np.linspace(start_S1[:, 0], end_S1[:, 0], count, axis=1)
        return np.clip(line_ST, start_S1, end_S1 - 1).astype(np.int64) + i_S1 * part
    if not overlap:
        return _line(part, count, step) + i_S1 * part
    last = min(length, num_frames) - 1
    shift = (num_frames - length) // (segments - 1) if num_frames > length and segments > 1 else 0
    return _line(last, count, step) + i_S1 * shift


def _line(last: int, count: int, step: int) -> Indices:
    """Points over [0, last), then `last` repeated, [1, count]; none reaches `last` itself."""
    moving = last // step
    points = np.concatenate([np.linspace(0, last, moving), np.full(count - moving, last)])
    return np.clip(points, 0, max(last - 1, 0)).astype(np.int64)[None]


def _offsets(num_frames: int, clip: ClipSpec, rate: float) -> Indices:
    """Distance of each frame of a clip from its first, [T]: every `frame_step`-th, or the nearest to its time.

    V-JEPA 2 asks for 4 a second and takes the whole step ceil(rate) // 4, which is 4 a second of a file at 60, but 5 of
    one at 15. The nearest frame is at most half a frame off, whatever the rate.
    """
    if clip.frame_step is not None:
        return np.arange(clip.num_frames) * clip.frame_step
    assert clip.fps is not None
    if num_frames > 1 and not rate > 0:
        raise ValueError("frames by time need the rate of the video")
    return np.floor(np.arange(clip.num_frames) * (rate / clip.fps) + 0.5).astype(np.int64)


def _spaced(num_frames: int, offsets_T: Indices, segments: int, starts: Starts | None, overlap: bool) -> Indices:
    """Frames at fixed offsets from the start of each clip."""
    span, part = int(offsets_T[-1]) + 1, num_frames // segments
    i_S1 = np.arange(segments)[:, None]
    if part >= span:
        return _starts(part - span + 1, segments, starts) + offsets_T + i_S1 * part
    if not overlap:
        return np.minimum(offsets_T, max(part - 1, 0)) + i_S1 * part
    shift = (num_frames - span) // (segments - 1) if num_frames > span and segments > 1 else 0
    return np.minimum(offsets_T, num_frames - 1) + i_S1 * shift


def _starts(choices: int, segments: int, starts: Starts | None) -> Indices:
    """A start in [0, choices) for each segment, [segments, 1]; the middle one without `starts`."""
    if starts is None:
        return np.full((segments, 1), (choices - 1) // 2)
    return np.floor(starts * choices).astype(np.int64)[:, None]
