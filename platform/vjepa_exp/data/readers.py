"""Decoding: the frames asked for, exactly, as uint8, or one `DecodeError`. Each reader has a file `reader_*.py`.

`index` records per file which readers return exactly the frames of decoding in turn, so it is a matter of speed alone
which of them reads it. Choosing frames and cropping them is not done here.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Literal, Self, cast, get_args

import numpy as np
import numpy.typing as npt

from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.execution import ReaderChoice

Reader = Literal["pyav", "torchcodec", "decord", "image"]
Kind = Literal["open", "no_video", "corrupt", "short", "timeout", "crash"]
Frames = npt.NDArray[np.int64]
FramesTHWC = npt.NDArray[np.uint8]

VIDEO_READERS: tuple[Reader, ...] = ("pyav", "torchcodec", "decord")
"""Fastest first (`benchmarks/decode.py`). The first is exact on every video, the others are on plain ones."""


class DecodeError(Exception):
    """A file, or the frames asked for, cannot be decoded.

    Attributes:
        kind: `open` not a readable container, `no_video` nothing to decode, `corrupt` decoding fails, `short` fewer
            frames than asked for, `timeout` the decoder did not come back, `crash` it died.
    """

    def __init__(self, kind: Kind, path: str, cause: str) -> None:
        super().__init__(kind, path, cause)
        self.kind: Kind = kind
        self.path = path
        self.cause = cause

    @classmethod
    def known(cls, path: str, reason: str) -> Self:
        """The error of a file that could not be read before, from the reason that was noted then."""
        kind, _, cause = reason.partition(": ")
        return cls(cast("Kind", kind), path, cause) if kind in get_args(Kind) else cls("open", path, reason)

    def __str__(self) -> str:
        return f"{self.kind}: {self.cause}" if self.cause else self.kind


def decode(path: str, frames: Frames, reader: Reader) -> FramesTHWC:
    """Decode the frames with the given numbers, counted in order of presentation.

    Args:
        path: a video or image file.
        frames: ascending, without repeats; all that is wanted of the file, since each call begins anew.
        reader: one that the manifest names.

    Returns:
        uint8 [len(frames), H, W, 3], RGB, turned as displayed; not to be written to.

    Raises:
        DecodeError: whatever goes wrong inside a decoder.
    """
    return load(reader)(path, frames)


def pick(exact: str, choice: ReaderChoice) -> Reader:
    """The reader for a file: the chosen one if it is `exact` there (names as in the manifest), else the fastest."""
    readers = cast("list[Reader]", exact.split(","))
    return next((reader for reader in readers if reader == choice), readers[0])


def require(choice: ReaderChoice) -> None:
    """Make sure that the chosen reader is there.

    Raises:
        UserError: it is not.
    """
    try:
        if choice != "auto":
            load(choice)
    except (ImportError, OSError, RuntimeError) as error:
        hint = " (needed: pip install 'vjepa-exp[torchcodec]', and FFmpeg)" if choice == "torchcodec" else ""
        raise UserError(f"execution.reader: {choice} cannot be loaded here: {first_line(error)}{hint}") from None


def load(reader: Reader) -> Callable[[str, Frames], FramesTHWC]:
    """A reader, loaded when it is first used: decord brings libraries of its own, torchcodec need not be there.

    Raises:
        ImportError, OSError, RuntimeError: it, or a library that it needs, is not there.
    """
    return cast("Callable[[str, Frames], FramesTHWC]", import_module(f"vjepa_exp.data.reader_{reader}").decode)


def first_line(error: Exception) -> str:
    """The cause in one line: libav and the operating system keep it apart from the path, decord does not."""
    lines = str(getattr(error, "strerror", None) or error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
