"""Which frames make a clip: pure index arithmetic (method facts section 7)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vjepa_exp.spec.data import ClipSpec

Indices = npt.NDArray[np.int64]


def clip_frames(
    num_frames: int, clip: ClipSpec, segments: int, starts: npt.NDArray[np.float64] | None, *, overlap: bool
) -> Indices:
    """Frame numbers of `segments` clips spread over a video.

    Args:
        num_frames: frames of the video.
        clip: frames per clip, their distance, and whether to follow the released code or its intent.
        segments: clips; the video is cut into as many equal parts and each part gives one.
        starts: where in its part each clip starts, [segments] uniform in [0, 1); None: in the middle.
        overlap: a part shorter than a clip borrows from its neighbours (evaluation) instead of repeating its last
            frame (pretraining).

    Returns:
        int64 [segments, clip.num_frames].
    """
    rule = _parity if clip.indexing == "parity" else _exact
    return rule(num_frames, clip, segments, starts, overlap)


def _parity(
    num_frames: int, clip: ClipSpec, segments: int, starts: npt.NDArray[np.float64] | None, overlap: bool
) -> Indices:
    """`num_frames` points on a line over num_frames * frame_step frames, rounded down."""
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


def _exact(
    num_frames: int, clip: ClipSpec, segments: int, starts: npt.NDArray[np.float64] | None, overlap: bool
) -> Indices:
    """Every `frame_step`-th frame."""
    offsets_1T = (np.arange(clip.num_frames) * clip.frame_step)[None]
    span, part = int(offsets_1T[0, -1]) + 1, num_frames // segments
    i_S1 = np.arange(segments)[:, None]
    if part >= span:
        return _starts(part - span + 1, segments, starts) + offsets_1T + i_S1 * part
    if not overlap:
        return np.minimum(offsets_1T, max(part - 1, 0)) + i_S1 * part
    shift = (num_frames - span) // (segments - 1) if num_frames > span and segments > 1 else 0
    return np.minimum(offsets_1T, num_frames - 1) + i_S1 * shift


def _starts(choices: int, segments: int, starts: npt.NDArray[np.float64] | None) -> Indices:
    """A start in [0, choices) for each segment, [segments, 1]; the middle one without `starts`."""
    if starts is None:
        return np.full((segments, 1), (choices - 1) // 2)
    return np.floor(starts * choices).astype(np.int64)[:, None]
