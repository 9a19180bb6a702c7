"""Decoding: the frames asked for, exactly, as uint8, or one `DecodeError`.

decord is fast but silently wrong outside closed-GOP mp4, mkv and webm, and hangs on some cut files; `index` records per
file which reader is exact. Choosing frames and cropping them is not done here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, Literal

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter
from PIL import Image

# How often decord polls its own thread for the last frames: on a busy machine a small number fails on good files, and
# which ones would change from run to run. Files on which it waits for ever meet the deadline of the caller.
os.environ.setdefault("DECORD_EOF_RETRY_MAX", "1000000")

import decord

Reader = Literal["decord", "pyav", "image"]
Kind = Literal["open", "no_video", "corrupt", "short", "timeout"]
FramesTHWC = npt.NDArray[np.uint8]

decord.logging.set_level(decord.logging.QUIET)


class DecodeError(Exception):
    """A file, or the frames asked for, cannot be decoded.

    Attributes:
        kind: `open` not a readable container, `no_video` nothing to decode, `corrupt` decoding fails, `short` fewer
            frames than asked for, `timeout` the decoder did not come back.
    """

    def __init__(self, kind: Kind, path: str, cause: str) -> None:
        super().__init__(kind, path, cause)
        self.kind: Kind = kind
        self.path = path
        self.cause = cause

    def __str__(self) -> str:
        return f"{self.kind}: {self.cause}" if self.cause else self.kind


def decode(path: str, frames: npt.NDArray[np.int64], reader: Reader) -> FramesTHWC:
    """Decode the frames with the given numbers, counted in order of presentation.

    Args:
        path: a video or image file.
        frames: ascending, without repeats.
        reader: the reader that the manifest names.

    Returns:
        uint8 [len(frames), H, W, 3], RGB, turned as displayed; not to be written to.

    Raises:
        DecodeError: whatever goes wrong inside a decoder.
    """
    return _READERS[reader](path, frames)


def decord_length(path: str) -> int:
    """How many frames decord believes a video to have.

    Raises:
        DecodeError: decord cannot open it.
    """
    return len(_open_decord(path))


def _open_decord(path: str) -> decord.VideoReader:
    try:
        return decord.VideoReader(path, ctx=decord.cpu(0), num_threads=1, fault_tol=1)
    except (decord.DECORDError, RuntimeError, OSError) as error:
        raise DecodeError("open", path, first_line(error)) from None


def _decode_decord(path: str, frames: npt.NDArray[np.int64]) -> FramesTHWC:
    video = _open_decord(path)
    try:
        if frames[-1] >= len(video):
            raise DecodeError("short", path, f"{len(video)} frames, frame {frames[-1]} asked for")
        batch = video.get_batch(frames.tolist())
    except (decord.DECORDError, decord.DECORDLimitReachedError, RuntimeError, AssertionError, IndexError) as error:
        raise DecodeError("corrupt", path, first_line(error)) from None
    finally:
        del video  # a living reader goes on decoding to the end of the file
    return np.asarray(np.from_dlpack(_Shared(batch)), dtype=np.uint8)  # asnumpy() would copy


class _Shared:
    """decord's memory as what numpy expects of it."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __dlpack__(self, **_: Any) -> Any:
        return self._array.to_dlpack()

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)  # the CPU


def _decode_pyav(path: str, frames: npt.NDArray[np.int64]) -> FramesTHWC:
    wanted = set(frames.tolist())
    reformatter = VideoReformatter()  # one for all frames: each new one builds its own conversion tables
    found: list[FramesTHWC] = []
    number = -1
    for number, frame in enumerate(frames_in_turn(path)):
        if number in wanted:
            found.append(_upright(frame, reformatter, found))
            if len(found) == len(wanted):
                return np.stack(found)
    raise DecodeError("short", path, f"{number + 1} frames, frame {frames[-1]} asked for")


def frames_in_turn(path: str) -> Iterator[av.VideoFrame]:
    """Decode a video with libav from its first frame on: by definition the frames that it has.

    Raises:
        DecodeError: the file cannot be opened or has no video, or decoding fails at some frame.
    """
    count = 0
    try:
        with av.open(path) as container:
            if not container.streams.video:
                raise DecodeError("no_video", path, "no video stream")
            stream = container.streams.video[0]
            stream.thread_type = "NONE"
            for frame in container.decode(stream):
                yield frame
                count += 1
    except (av.FFmpegError, OSError, MemoryError, ValueError) as error:
        where = f"after frame {count}: " if count else ""
        raise DecodeError("corrupt" if count else "open", path, where + first_line(error)) from None


def _upright(frame: av.VideoFrame, reformatter: VideoReformatter, before: list[FramesTHWC]) -> FramesTHWC:
    """RGB of a frame [H, W, 3], turned as displayed, in the size of the frames `before` it."""
    turns = round(frame.rotation / 90) % 4
    width, height = frame.width, frame.height
    if before:
        height, width = before[0].shape[:2] if turns % 2 == 0 else before[0].shape[1::-1]
    rgb = reformatter.reformat(frame, width=width, height=height, format="rgb24").to_ndarray()
    return np.rot90(rgb, turns)


def _decode_image(path: str, frames: npt.NDArray[np.int64]) -> FramesTHWC:
    if frames[-1] > 0:
        raise DecodeError("short", path, f"an image has one frame, frame {frames[-1]} asked for")
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))[None]
    except (OSError, SyntaxError, ValueError, MemoryError, Image.DecompressionBombError) as error:
        raise DecodeError("open", path, first_line(error)) from None


_READERS: dict[Reader, Callable[[str, npt.NDArray[np.int64]], FramesTHWC]] = {
    "decord": _decode_decord,
    "pyav": _decode_pyav,
    "image": _decode_image,
}


def first_line(error: Exception) -> str:
    """The cause in one line: libav and the operating system keep it apart from the path, decord does not."""
    lines = str(getattr(error, "strerror", None) or error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
