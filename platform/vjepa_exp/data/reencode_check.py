"""Whether a video is another one, encoded again: frames, times, pictures, and what every reader makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from vjepa_exp.data.deadline import within
from vjepa_exp.data.probe import FileInfo, probe
from vjepa_exp.data.readers import DecodeError, Frames, FramesTHWC, Reader, decode, load
from vjepa_exp.data.reencode import Picture, Settings, UntimedError, shown

_WINDOW, _WINDOWS = 64, 16  # frames that readers are asked for at once, and how many such requests at most
_READER_DEADLINE_S = 120.0
_BEST = 99.0


class UnfitError(Exception):
    """A video is not what it was made from."""


@dataclass(frozen=True)
class Checked:
    """What a comparison finds.

    Attributes:
        info: of the new video; its readers are those that returned exactly its frames.
        psnr: of the worst frame, in decibels; 99 where there is no difference.
    """

    info: FileInfo
    psnr: float


def compare(source: str, out: Path, settings: Settings, *, even: bool, min_psnr: float) -> Checked:
    """Read a new video again, beside its source.

    Raises:
        UnfitError: it cannot be read, has other frames or times, or a frame differs too much.
        DecodeError: the source cannot be read to its end.
    """
    info = probe(out)
    if not info.decodable:
        raise UnfitError(f"cannot be read: {info.reason}")
    exact = _Exact(out, info)
    worst, count = _BEST, 0
    for psnr, rgb in _side_by_side(source, str(out), settings, even):
        if psnr < min_psnr:
            raise UnfitError(f"{psnr:.1f} dB in frame {count}, less than {min_psnr:g}")
        worst, count = min(worst, psnr), count + 1
        exact.add(rgb)
    if count != info.frames:
        raise UnfitError(f"{info.frames} frames by its packets, {count} when decoded in turn")
    if not exact.readers:
        raise UnfitError("no reader returns exactly its frames")
    return Checked(FileInfo(**{**vars(info), "readers": ",".join(exact.readers)}), worst)


def _side_by_side(
    source: str, out: str, settings: Settings, even: bool
) -> Iterator[tuple[float, npt.NDArray[np.uint8]]]:
    """For each frame its PSNR against the scaled source, and its pixels."""
    old, new = None, None
    for number, (was, now) in enumerate(zip_longest(shown(source, even=even), _new_frames(out))):
        if was is None or now is None:
            raise UnfitError(
                f"{'more' if was is None else 'fewer'} frames than its source: differs from frame {number}"
            )
        if was.time != now.time:
            raise UnfitError(f"frame {number} is shown at {float(now.time):.6f} s instead of {float(was.time):.6f} s")
        if old is None or new is None:
            old, new = Picture(was.frame, settings.short_side), Picture(now.frame, None)
            if old.size != new.size:
                raise UnfitError(f"{new.size[0]} x {new.size[1]} pixels instead of {old.size[0]} x {old.size[1]}")
        rgb = new.rgb(now.frame)
        yield _psnr(old.rgb(was.frame), rgb), rgb


def _new_frames(out: str) -> Iterator[Any]:
    try:
        yield from shown(out)
    except (DecodeError, UntimedError) as error:
        raise UnfitError(f"cannot be read in turn: {error}") from None


def _psnr(a_HWC: npt.NDArray[np.uint8], b_HWC: npt.NDArray[np.uint8]) -> float:
    """Of the averages of 2 x 2 pixels: finer colours are not kept, and converted differently from format to format."""
    difference = _quarter(a_HWC) - _quarter(b_HWC)
    error = float(np.mean(np.square(difference, dtype=np.float32))) / 16
    return min(_BEST, 10 * float(np.log10(255**2 / max(error, 1e-9))))


def _quarter(pixels_HWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.int16]:
    """Sums of 2 x 2 pixels."""
    wide = pixels_HWC.astype(np.int16)
    rows = wide[::2] + wide[1::2]
    return cast("npt.NDArray[np.int16]", rows[:, ::2] + rows[:, 1::2])


class _Exact:
    """Which of the readers named for a video return its frames as decoding in turn does, while that goes on.

    All frames of a video of up to 1024, else 16 windows of 64 frames spread over it. A reader that is not installed
    here stays named, as `probe` names it.
    """

    def __init__(self, path: Path, info: FileInfo) -> None:
        self.readers = cast("list[Reader]", info.readers.split(","))
        self._path, self._number = str(path), 0
        starts = np.linspace(0, max(0, info.frames - _WINDOW), min(_WINDOWS, -(-info.frames // _WINDOW)))
        self._windows = [np.arange(start, min(start + _WINDOW, info.frames)) for start in starts.astype(int).tolist()]
        self._held: dict[int, npt.NDArray[np.uint8]] = {}

    def add(self, rgb: npt.NDArray[np.uint8]) -> None:
        """Take the next frame."""
        number, self._number = self._number, self._number + 1
        if self._windows and number >= self._windows[0][0]:
            self._held[number] = rgb
        while self._windows and number == self._windows[0][-1]:
            frames = self._windows.pop(0)
            truth = np.stack([self._held[number] for number in frames.tolist()])
            self.readers = [reader for reader in self.readers if self._agrees(reader, frames, truth)]
            following = self._windows[0][0] if self._windows else number + 1
            self._held = {kept: held for kept, held in self._held.items() if kept >= following}

    def _agrees(self, reader: Reader, frames: Frames, truth: FramesTHWC) -> bool:
        try:
            load(reader)
        except (ImportError, OSError, RuntimeError):
            return True
        try:
            return np.array_equal(within(_READER_DEADLINE_S, decode, self._path, frames, reader), truth)
        except (DecodeError, TimeoutError):
            return False
