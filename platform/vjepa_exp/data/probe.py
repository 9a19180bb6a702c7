"""What a file holds and which reader is exact on it: from its packets where they can be trusted, else by decoding."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.video.stream import VideoStream

from vjepa_exp.data.deadline import within
from vjepa_exp.data.readers import DecodeError, Reader, decode, decord_length, first_line, frames_in_turn

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".flv", ".mpg", ".mpeg", ".ts", ".wmv"})
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})

# Where decord 0.6 returned exactly the frames of a sequential decode. Elsewhere it is wrong without saying so.
_SAFE_CONTAINERS = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"})
_DECORD_CODECS = frozenset({"h264", "vp8", "vp9"})
_DECORD_PIXELS = frozenset({"yuv420p", "yuvj420p"})
_DEADLINE_S = 30.0


@dataclass(frozen=True)
class FileInfo:
    """The columns of a manifest that describe the file itself."""

    frames: int = 0
    fps: float = 0.0
    width: int = 0
    height: int = 0
    codec: str = ""
    bytes: int = 0
    decodable: bool = False
    reason: str = ""
    reader: str = ""


@dataclass(frozen=True)
class _Stream:
    """What a container and the packets of its first video stream say."""

    container: str
    codec: str
    pixel_format: str
    fps: float
    packets: int
    cut: bool  # a packet ends before its data does
    indexed: bool  # a time for every packet and none twice, a key frame first, nothing to decode without showing it
    closed: bool  # no packet after a key frame is shown before it


def probe(path: Path) -> FileInfo:
    """Describe a video or an image. A file that cannot be decoded is described too, with the reason."""
    try:
        size = path.stat().st_size
    except OSError as error:
        return FileInfo(reason=error.strerror or "cannot be read")
    if size == 0:
        return FileInfo(reason="empty file")
    try:
        return _image(path, size) if path.suffix.lower() in IMAGE_SUFFIXES else _video(path, size)
    except DecodeError as error:
        return FileInfo(bytes=size, reason=str(error))


def _image(path: Path, size: int) -> FileInfo:
    pixels = decode(str(path), np.zeros(1, dtype=np.int64), "image")
    height, width = pixels.shape[1:3]
    return FileInfo(1, 0.0, width, height, path.suffix.lower()[1:], size, True, "", "image")


def _video(path: Path, size: int) -> FileInfo:
    stream = _stream(str(path))
    if stream.cut:
        raise DecodeError("corrupt", str(path), f"truncated in packet {stream.packets}")
    safe = stream.indexed and stream.container in _SAFE_CONTAINERS
    frames = stream.packets if safe else sum(1 for _ in frames_in_turn(str(path)))
    first = decode(str(path), np.zeros(1, dtype=np.int64), "pyav")
    reader: Reader = "decord" if safe and _decord_agrees(str(path), stream, frames, first) else "pyav"
    height, width = first.shape[1:3]
    return FileInfo(frames, stream.fps, width, height, stream.codec, size, True, "", reader)


def _stream(path: str) -> _Stream:
    try:
        with av.open(path) as container:
            if not container.streams.video:
                raise DecodeError("no_video", path, "no video stream")
            stream = container.streams.video[0]
            packets = [packet for packet in container.demux(stream) if packet.size]
            times = [packet.pts for packet in packets]
            shown = not any(packet.is_discard for packet in packets)
            return _Stream(
                container=container.format.name,
                codec=stream.codec_context.name,
                pixel_format=stream.codec_context.pix_fmt or "",
                fps=float(stream.average_rate or 0),
                packets=len(packets),
                cut=any(packet.is_corrupt for packet in packets),
                indexed=bool(packets) and packets[0].is_keyframe and shown and _distinct(times),
                closed=_closed(packets),
            )
    except (av.FFmpegError, OSError, MemoryError, ValueError) as error:
        raise DecodeError("open", path, first_line(error)) from None


def _distinct(times: list[int | None]) -> bool:
    return None not in times and len(set(times)) == len(times)


def _closed(packets: list[av.Packet[VideoStream]]) -> bool:
    """Whether no packet that follows a key frame in the file is shown before it."""
    key: int | None = None
    for packet in packets:
        if packet.is_keyframe:
            key = packet.pts
        elif key is not None and packet.pts is not None and packet.pts < key:
            return False
    return True


def _decord_agrees(path: str, stream: _Stream, frames: int, first: npt.NDArray[np.uint8]) -> bool:
    """Whether decord is exact on a file: of a kind that it decodes exactly, and of the same length and first frame."""
    if stream.codec not in _DECORD_CODECS or stream.pixel_format not in _DECORD_PIXELS or not stream.closed:
        return False
    try:
        if within(_DEADLINE_S, decord_length, path) != frames:
            return False
        return np.array_equal(within(_DEADLINE_S, decode, path, np.zeros(1, dtype=np.int64), "decord"), first)
    except (DecodeError, TimeoutError):
        return False
