"""What a file holds and which readers are exact on it: from its packets where they can be trusted, else by decoding."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vjepa_exp.data.deadline import within
from vjepa_exp.data.packets import Track, open_video
from vjepa_exp.data.reader_pyav import frames_in_turn
from vjepa_exp.data.readers import VIDEO_READERS, DecodeError, Frames, FramesTHWC, decode

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".flv", ".mpg", ".mpeg", ".ts", ".wmv"})
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})

# Where every reader returned exactly the frames of decoding in turn, and where its libraries convert colours alike.
_CLOSED_CODECS = frozenset({"h264", "vp8", "vp9"})
_PLAIN_PIXELS = frozenset({"yuv420p", "yuvj420p"})
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
    readers: str = ""


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
    name = str(path)
    with open_video(name) as container:
        track = Track.read(container)
        if track.truncated:
            raise DecodeError("corrupt", name, f"truncated in packet {len(track.packets)}")
        codec, fps = track.stream.codec_context.name, float(track.stream.average_rate or 0)
        frames = len(track.frame_times) if track.indexed else sum(1 for _ in frames_in_turn(name))
        tried = _first_and_last_key(track) if track.indexed else np.zeros(1, dtype=np.int64)
        pixels = decode(name, tried, "pyav")
        readers = VIDEO_READERS if _plain(track) and _decord_agrees(name, frames, tried, pixels) else VIDEO_READERS[:1]
    height, width = pixels.shape[1:3]
    return FileInfo(frames, fps, width, height, codec, size, True, "", ",".join(readers))


def _first_and_last_key(track: Track) -> Frames:
    """Frames that cost little to decode and show whether a reader counts and converts as it should."""
    last = np.searchsorted(track.frame_times, track.times[track.starts[-1]])  # past the end where it is cut away
    return np.unique([0, np.clip(last, 0, max(0, len(track.frame_times) - 1))]).astype(np.int64)


def _plain(track: Track) -> bool:
    """Whether this is a kind of video that every reader decodes as in turn; elsewhere some are silently wrong."""
    context = track.stream.codec_context
    alone = len(track.container.streams.video) == 1  # of several, readers take different ones
    kind = context.name in _CLOSED_CODECS and context.pix_fmt in _PLAIN_PIXELS
    return alone and kind and track.indexed and track.closed and bool(track.shown.all())


def _decord_agrees(path: str, frames: int, tried: Frames, pixels: FramesTHWC) -> bool:
    """Whether decord counts a plain video alike and returns the same pixels.

    This trial stands for torchcodec too, which need not be here: no file is known on which decord agrees and it does
    not (`tests/unit/data/test_exact.py` looks, where it is installed).
    """
    try:
        if within(_DEADLINE_S, _decord_length, path) != frames:
            return False
        return np.array_equal(within(_DEADLINE_S, decode, path, tried, "decord"), pixels)
    except (DecodeError, TimeoutError, ImportError):
        return False


def _decord_length(path: str) -> int:
    from vjepa_exp.data import reader_decord

    return reader_decord.length(path)
