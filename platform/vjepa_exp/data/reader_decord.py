"""The reference reader: decord, fast to call and right on H.264, VP8 and VP9 of closed groups in mp4, mkv and webm.

Elsewhere it is silently wrong or hangs, so only files that the manifest names go to it, and under a deadline. A reader
serves one request and is deleted at once: while it lives, it decodes on to the end of the file.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

# How often decord polls its own thread for the last frames: on a busy machine a small number fails on good files, and
# which ones would change from run to run. Files on which it waits for ever meet the deadline of the caller.
os.environ.setdefault("DECORD_EOF_RETRY_MAX", "1000000")

import decord

from vjepa_exp.data.readers import DecodeError, Frames, FramesTHWC, first_line

decord.logging.set_level(decord.logging.QUIET)


def decode(path: str, frames: Frames) -> FramesTHWC:
    """Decode the frames with the given numbers (see `readers.decode`)."""
    video = _open(path)
    try:
        if frames[-1] >= len(video):
            raise DecodeError("short", path, f"{len(video)} frames, frame {frames[-1]} asked for")
        batch = video.get_batch(frames.tolist())
    except (decord.DECORDError, decord.DECORDLimitReachedError, RuntimeError, AssertionError, IndexError) as error:
        raise DecodeError("corrupt", path, first_line(error)) from None
    finally:
        del video
    return np.asarray(np.from_dlpack(_Shared(batch)), dtype=np.uint8)  # asnumpy() would copy


def length(path: str) -> int:
    """How many frames decord believes a video to have.

    Raises:
        DecodeError: decord cannot open it.
    """
    return len(_open(path))


def _open(path: str) -> decord.VideoReader:
    try:
        return decord.VideoReader(path, ctx=decord.cpu(0), num_threads=1, fault_tol=1)
    except (decord.DECORDError, RuntimeError, OSError) as error:
        raise DecodeError("open", path, first_line(error)) from None


class _Shared:
    """decord's memory as what numpy expects of it."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __dlpack__(self, **_: Any) -> Any:
        return self._array.to_dlpack()

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)  # the CPU
