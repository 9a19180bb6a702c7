"""What the packets of a video say before anything is decoded: which frames there are, where a decoder may begin.

A decoder may begin at a key picture after which nothing refers to what came before: an instantaneous refresh (H.264),
a random access picture that no leading picture follows (HEVC), a key frame (VP8, VP9), shown after all that precedes
it and before all that follows. Containers that give no time for each packet, other codecs and damaged or unusual
streams have no such index; only decoding them in turn says what they hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.video.stream import VideoStream

from vjepa_exp.data.readers import DecodeError, first_line

Packet: TypeAlias = "av.Packet[VideoStream]"  # generic for type checkers only
Integers = npt.NDArray[np.int64]

FFMPEG_ERRORS = (av.FFmpegError, OSError, MemoryError, ValueError)
"""What PyAV raises for a file that it cannot read or decode."""

_TIMED_CONTAINERS = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"})
_CODECS = frozenset({"h264", "hevc", "vp8", "vp9"})
_PROGRESSIVE = 1  # AV_FIELD_PROGRESSIVE
_H264_IDR, _H264_PARAMETERS = frozenset({5}), frozenset({7, 8})
_HEVC_RANDOM_ACCESS, _HEVC_PARAMETERS = frozenset(range(16, 22)), frozenset({32, 33, 34})


@contextmanager
def open_video(path: str) -> Iterator[InputContainer]:
    """A file whose first video stream is decoded without threads.

    Raises:
        DecodeError: the file cannot be opened, or has no video.
    """
    try:
        container = av.open(path)
    except FFMPEG_ERRORS as error:
        raise DecodeError("open", path, first_line(error)) from None
    with container:
        if not container.streams.video:
            raise DecodeError("no_video", path, "no video stream")
        stream = container.streams.video[0]
        if getattr(stream, "codec_context", None) is None:  # PyAV's types leave this case out
            raise DecodeError("open", path, "no decoder for its codec")
        stream.thread_type = "NONE"  # threads cost more CPU time than they save
        yield container


def indexable(container: InputContainer) -> bool:
    """Whether packets of this kind of video can tell where its frames are; if not, they need not be read."""
    return container.format.name in _TIMED_CONTAINERS and container.streams.video[0].codec_context.name in _CODECS


@dataclass(frozen=True)
class Track:
    """The packets of the first video stream of a file, in decoding order."""

    container: InputContainer
    packets: list[Packet]

    @staticmethod
    def read(container: InputContainer) -> Track:
        """Read all packets, to the end of the file.

        Raises:
            DecodeError: the container is damaged.
        """
        try:
            return Track(container, [packet for packet in container.demux(video=0) if packet.size])
        except FFMPEG_ERRORS as error:
            raise DecodeError("corrupt", container.name, first_line(error)) from None

    @property
    def stream(self) -> VideoStream:
        """The stream that they belong to."""
        return self.container.streams.video[0]

    @property
    def truncated(self) -> bool:
        """Whether a packet ends before its data does."""
        return any(packet.is_corrupt for packet in self.packets)

    @cached_property
    def indexed(self) -> bool:
        """Whether `frame_times` and `starts` can be trusted."""
        return (
            indexable(self.container)
            and all(packet.pts is not None for packet in self.packets)
            and not any(packet.has_sidedata("new_extradata") for packet in self.packets)
            and len(set(self.frame_times.tolist())) == len(self.frame_times)
            and self.starts[:1].tolist() == [0]
        )

    @cached_property
    def times(self) -> Integers:
        """Presentation time of each packet, int64 [packets]."""
        return np.asarray([packet.pts for packet in self.packets], dtype=np.int64)

    @cached_property
    def shown(self) -> npt.NDArray[np.bool_]:
        """Whether a packet becomes a frame: not cut away by an edit list, nor meant only to be referred to."""
        codec = self.stream.codec_context.name
        hidden = {"vp8": _hidden_vp8, "vp9": _hidden_vp9}.get(codec, _never)
        return np.asarray([not packet.is_discard and not hidden(packet) for packet in self.packets], dtype=np.bool_)

    @cached_property
    def frame_times(self) -> Integers:
        """Presentation times of the frames, ascending, int64 [frames]; the place is the number of the frame."""
        return np.sort(self.times[self.shown])

    @cached_property
    def starts(self) -> Integers:
        """Packets at which a decoder may begin, ascending, int64."""
        before = np.maximum.accumulate(self.times)[:-1]
        after = np.minimum.accumulate(self.times[::-1])[::-1][1:]
        clean = np.ones(len(self.times), dtype=np.bool_)
        clean[1:] &= before < self.times[1:]
        clean[:-1] &= self.times[:-1] < after
        keys = [i for i, packet in enumerate(self.packets) if clean[i] and packet.is_keyframe]
        return np.asarray([i for i in keys if self._refreshes(self.packets[i])], dtype=np.int64)

    @cached_property
    def closed(self) -> bool:
        """Whether a decoder may begin at every key packet."""
        return len(self.starts) == sum(packet.is_keyframe for packet in self.packets)

    @cached_property
    def skippable(self) -> bool:
        """Whether the decoder can leave out pictures that none refers to without a trace in the others.

        Not VP8 and VP9, where such a picture may still change the segmentation of later ones; not HEVC with temporal
        layers, where a higher layer may refer to it; not fields of H.264, which refer to each other.
        """
        context = self.stream.codec_context
        if context.name == "hevc":
            header = context.extradata or b""
            return len(header) > 21 and header[0] == 1 and header[21] >> 3 & 7 == 1
        return context.name == "h264" and context.field_order == _PROGRESSIVE

    def _refreshes(self, packet: Packet) -> bool:
        """Whether a key packet makes all that came before it unneeded, parameter sets included."""
        codec = self.stream.codec_context.name
        if codec == "vp8":
            return not memoryview(packet)[0] & 1
        if codec == "vp9":
            return not _vp9_flags(packet) & 4
        units, wanted, parameters = self._units(packet), _H264_IDR, _H264_PARAMETERS
        if codec == "hevc":
            wanted, parameters = _HEVC_RANDOM_ACCESS, _HEVC_PARAMETERS
        return bool(units & wanted) and units >= self._units(self.packets[0]) & parameters

    def _units(self, packet: Packet) -> frozenset[int]:
        """Types of the units of an H.264 or HEVC packet; none where they do not come with their lengths."""
        header = self.stream.codec_context.extradata or b""
        hevc = self.stream.codec_context.name == "hevc"
        at = 21 if hevc else 4
        if len(header) <= at or header[0] != 1:
            return frozenset()
        size, data, types, begin = (header[at] & 3) + 1, memoryview(packet), set(), 0
        while begin + size < len(data):
            kind = data[begin + size]
            types.add(kind >> 1 & 63 if hevc else kind & 31)
            begin += size + int.from_bytes(data[begin : begin + size])
        return frozenset(types)


def _never(packet: Packet) -> bool:
    return False


def _hidden_vp8(packet: Packet) -> bool:
    return not memoryview(packet)[0] & 16


def _hidden_vp9(packet: Packet) -> bool:
    """A frame that is not shown travels with one that is, unless the encoder was set up otherwise."""
    flags = _vp9_flags(packet)
    several = memoryview(packet)[-1] >> 5 == 6
    return not several and not flags & 8 and not flags & 2


def _vp9_flags(packet: Packet) -> int:
    """Of the first frame of a packet: 8 shows an existing frame, 4 is no key frame, 2 is shown."""
    first = memoryview(packet)[0]
    return first >> 1 if first & 0x30 == 0x30 else first
