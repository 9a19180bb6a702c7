"""One video, encoded again so that it decodes fast: small pictures, short closed groups, a light bitstream.

What is kept: which frames there are, when each is shown, how they are turned (applied to the pixels, so that no reader
has to), their colours. What goes: pixels above the wanted size, sound, all other streams.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from vjepa_exp.data.reader_pyav import frames_in_turn
from vjepa_exp.data.readers import DecodeError

PREPARE_FORMAT = 1
"""Part of what decides whether a prepared file is made anew: change it when the same settings give another file."""

_EVEN_RATE = Fraction(25)  # of a video that says neither when its frames are shown nor how many there are a second
_RGB_MATRIX, _UNSPECIFIED = 0, 2  # AVCOL_SPC_*


@dataclass(frozen=True)
class Settings:
    """How videos are encoded again.

    Attributes:
        short_side: in pixels, at most; a smaller video keeps its size. Sides are rounded down to even numbers.
        gop: frames of a group of pictures, each of which begins with an instantaneous refresh.
        crf: constant rate factor of x264: lower is better and larger.
        preset: of x264: slower is smaller.
    """

    short_side: int = 256
    gop: int = 16
    crf: int = 23
    preset: str = "medium"

    def to_json(self) -> dict[str, Any]:
        """All that decides what becomes of a source file."""
        return {"format": PREPARE_FORMAT, **asdict(self), "tune": "fastdecode", "codec": "h264"}

    @property
    def x264(self) -> dict[str, str]:
        """Options of the encoder (decode facts section 2)."""
        group = {"g": str(self.gop), "keyint_min": str(self.gop), "sc_threshold": "0"}
        quality = {"crf": str(self.crf), "preset": self.preset, "tune": "fastdecode"}
        return {**group, **quality, "x264-params": "open-gop=0", "threads": "1"}


class Shown(NamedTuple):
    """A decoded frame and when it is shown, in seconds."""

    time: Fraction
    frame: av.VideoFrame


class UntimedError(Exception):
    """The frames of a video have no times that ascend."""


def shown(path: str, *, even: bool = False) -> Iterator[Shown]:
    """The frames of a video in turn, each with its time: its own, or spread evenly by the average rate if `even`.

    Raises:
        DecodeError: the video cannot be read to its end.
        UntimedError: its own times do not ascend.
    """
    rate, last = (average_rate(path) or _EVEN_RATE) if even else _EVEN_RATE, None
    for number, frame in enumerate(frames_in_turn(path)):
        time = number / rate if even else _time(frame)
        if time is None or (last is not None and time <= last):
            raise UntimedError(path)
        last = time
        yield Shown(time, frame)


def _time(frame: av.VideoFrame) -> Fraction | None:
    return None if frame.pts is None or frame.time_base is None else frame.pts * frame.time_base


def average_rate(path: str) -> Fraction | None:
    """Frames per second as the container says."""
    with av.open(path) as container:
        return container.streams.video[0].average_rate


class Picture:
    """Brings all frames of a video to one size, turned as displayed."""

    def __init__(self, first: av.VideoFrame, short_side: int | None) -> None:
        """Decide the size.

        Args:
            first: frame of the video; others of another size are brought to that of the first, as readers do.
            short_side: what a larger picture is scaled to; None: the size stays.
        """
        self._turns = round(first.rotation / 90) % 4
        self._coded = (first.width, first.height) if short_side is None else _fit(first.width, first.height, short_side)
        self._scale = VideoReformatter()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as displayed."""
        width, height = self._coded
        return (height, width) if self._turns % 2 else (width, height)

    def yuv(self, frame: av.VideoFrame) -> av.VideoFrame:
        """A frame for the encoder, with nothing on it that would speak to the encoder."""
        planes = self._as(frame, _pixels(frame))
        if self._turns:
            height = planes.shape[0] * 2 // 3
            luma, chroma = planes[:height], planes[height:].reshape(2, height // 2, -1)
            parts = [np.rot90(luma, self._turns), *(np.rot90(plane, self._turns) for plane in chroma)]
            planes = np.concatenate([part.reshape(-1) for part in parts]).reshape(-1, self.size[0])
        fresh = av.VideoFrame.from_ndarray(np.ascontiguousarray(planes), format=_pixels(frame))
        fresh.pict_type = PictureType.NONE
        return fresh

    def rgb(self, frame: av.VideoFrame) -> npt.NDArray[np.uint8]:
        """A frame as readers show it, uint8 [H, W, 3]."""
        return np.rot90(self._as(frame, "rgb24"), self._turns)

    def _as(self, frame: av.VideoFrame, pixels: str) -> npt.NDArray[np.uint8]:
        width, height = self._coded
        same = (frame.width, frame.height) == self._coded
        how = Interpolation.BILINEAR if same else Interpolation.BICUBIC  # that of the readers, where nothing is scaled
        scaled = self._scale.reformat(frame, width, height, pixels, interpolation=how, threads=1)
        return np.asarray(scaled.to_ndarray(), dtype=np.uint8)


def _fit(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Even sides of which the shorter one is at most `short_side`; 2 where that leaves nothing."""
    short = min(width, height)
    sides = (side * short_side // short if short > short_side else side for side in (width, height))
    width, height = (max(2, side // 2 * 2) for side in sides)
    return width, height


def _pixels(frame: av.VideoFrame) -> str:
    """8 bits with half the colours each way, in the range of the source."""
    return "yuvj420p" if frame.color_range == ColorRange.JPEG else "yuv420p"


def encode(source: str, out: Path, settings: Settings, *, even: bool = False) -> None:
    """Encode a video again.

    Args:
        source: the video.
        out: an mp4 file to write.
        settings: how.
        even: spread the frames evenly over time instead of by their own times.

    Raises:
        DecodeError: the source cannot be read to its end.
        UntimedError: not `even`, and its times do not ascend.
        OSError: `out` cannot be written.
    """
    frames = shown(source, even=even)
    first = next(frames, None)
    if first is None:
        raise DecodeError("short", source, "no frames")
    picture = Picture(first.frame, settings.short_side)
    rate = average_rate(source) or _EVEN_RATE
    base = 1 / rate if even else first.frame.time_base
    assert base is not None
    # The second keeps the time of the first frame exact, which else is rounded to milliseconds.
    muxer = {"movflags": "+faststart", "movie_timescale": str(base.denominator)}
    with av.open(str(out), "w", format="mp4", options=muxer) as container:
        stream: Any = container.add_stream("libx264", rate=rate, options=settings.x264)
        (stream.width, stream.height), stream.pix_fmt = picture.size, _pixels(first.frame)
        stream.codec_context.time_base = base
        _tag_colours(stream.codec_context, first.frame)
        for time, frame in chain([first], frames):
            container.mux(stream.encode(_timed(picture.yuv(frame), time, base)))
        container.mux(stream.encode())


def _timed(frame: av.VideoFrame, time: Fraction, base: Fraction) -> av.VideoFrame:
    frame.time_base, frame.pts = base, int(time / base)
    return frame


def _tag_colours(context: Any, frame: av.VideoFrame) -> None:
    """Say what the numbers mean as the source says it: they are not converted."""
    context.color_range = frame.color_range
    context.colorspace = _UNSPECIFIED if frame.colorspace == _RGB_MATRIX else frame.colorspace
    context.color_primaries, context.color_trc = frame.color_primaries, frame.color_trc
