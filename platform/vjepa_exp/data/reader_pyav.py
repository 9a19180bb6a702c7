"""The reader for every video: PyAV, given only the packets that the wanted frames need.

Where the packets tell which frames there are (`Track.indexed`), each wanted frame costs what its group of pictures
needs up to it, without the pictures that nothing refers to. Elsewhere the video is decoded in turn from its first
frame, which is slower and by definition right.
"""

from __future__ import annotations

from collections.abc import Iterator

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from vjepa_exp.data.packets import FFMPEG_ERRORS, Track, indexable, open_video
from vjepa_exp.data.readers import DecodeError, Frames, FramesTHWC, first_line


def decode(path: str, frames: Frames) -> FramesTHWC:
    """Decode the frames with the given numbers (see `readers.decode`)."""
    with open_video(path) as container:
        track = Track.read(container) if indexable(container) else None
        if track is not None and track.indexed:
            return _selected(path, track, frames)
    return _in_turn(path, frames)


def frames_in_turn(path: str) -> Iterator[av.VideoFrame]:
    """Decode a video from its first frame on: by definition the frames that it has.

    Raises:
        DecodeError: the file cannot be opened or has no video, or decoding fails at some frame.
    """
    count = 0
    with open_video(path) as container:
        try:
            for frame in container.decode(video=0):
                yield frame
                count += 1
        except FFMPEG_ERRORS as error:
            where = f"after frame {count}: " if count else ""
            raise DecodeError("corrupt" if count else "open", path, where + first_line(error)) from None


def _in_turn(path: str, frames: Frames) -> FramesTHWC:
    pixels, number = _Pixels(frames), -1
    for number, frame in enumerate(frames_in_turn(path)):
        pixels.add(number, frame)
        if not pixels.missing:
            return pixels.rgb
    raise DecodeError("short", path, f"{number + 1} frames, frame {frames[-1]} asked for")


def _selected(path: str, track: Track, frames: Frames, *, whole: bool = False) -> FramesTHWC:
    """Only what the frames need; all from the beginning if `whole`, since damage is hidden with what came before."""
    if frames[-1] >= len(track.frame_times):
        raise DecodeError("short", path, f"{len(track.frame_times)} frames, frame {frames[-1]} asked for")
    times, pixels = track.frame_times[frames], _Pixels(frames)
    number = dict(zip(times.tolist(), frames.tolist(), strict=True))
    try:
        for frame in _decoded(track, times, whole):
            if frame.is_corrupt and not whole:
                return _selected(path, track, frames, whole=True)
            if frame.pts in number:
                pixels.add(number[frame.pts], frame)
    except FFMPEG_ERRORS as error:
        raise DecodeError("corrupt", path, f"up to frame {frames[-1]}: {first_line(error)}") from None
    if pixels.missing:
        raise DecodeError("corrupt", path, f"nothing to show as frame {min(pixels.missing)}")
    return pixels.rgb


def _decoded(track: Track, times: Frames, whole: bool) -> Iterator[av.VideoFrame]:
    """Frames among which are those of the given times, from no more packets than these need unless `whole`."""
    context, wanted = track.stream.codec_context, set(times.tolist())
    if context.name == "h264":
        # The first packet names the encoder, and libavcodec makes up for the mistakes of some: read, not decoded.
        context.flush_buffers()
        context.skip_frame = "ALL"
        context.decode(track.packets[0])
    ranges = _ranges(track, times)
    for first, last in [(0, ranges[-1][1])] if whole else ranges:
        context.flush_buffers()
        for packet in track.packets[first : last + 1]:
            needed = whole or packet.pts in wanted or not track.skippable
            context.skip_frame = "DEFAULT" if needed else "NONREF"
            yield from context.decode(packet)
        yield from context.decode(None)


def _ranges(track: Track, times: Frames) -> list[tuple[int, int]]:
    """For each group of pictures with a wanted frame: its first packet and the last wanted one."""
    packets = np.flatnonzero(np.isin(track.times, times) & track.shown)
    groups = np.searchsorted(track.starts, packets, side="right") - 1
    return [(int(track.starts[group]), int(packets[groups == group][-1])) for group in np.unique(groups)]


class _Pixels:
    """Wanted frames as they come: RGB, turned as displayed, in the size of the first."""

    def __init__(self, frames: Frames) -> None:
        self._place = {number: place for place, number in enumerate(frames.tolist())}
        self._reformatter = VideoReformatter()  # one for all frames: each new one builds its own conversion tables
        self.rgb: FramesTHWC = np.empty((len(frames), 0, 0, 3), dtype=np.uint8)
        self.missing = set(self._place)

    def add(self, number: int, frame: av.VideoFrame) -> None:
        """Keep a frame if it is wanted."""
        if number not in self.missing:
            return
        turns, first = round(frame.rotation / 90) % 4, not self.rgb.size
        height, width = (frame.height, frame.width) if first else self.rgb.shape[1:3][:: -1 if turns % 2 else 1]
        shown = np.rot90(self._rgb(frame, height, width), turns)
        if first:
            self.rgb = np.empty((len(self.rgb), *shown.shape), dtype=np.uint8)
        self.rgb[self._place[number]] = shown
        self.missing.remove(number)

    def _rgb(self, frame: av.VideoFrame, height: int, width: int) -> npt.NDArray[np.uint8]:
        # One thread: FFmpeg would start a task on every core for each frame, and wait for all of them.
        rgb = self._reformatter.reformat(frame, width=width, height=height, format="rgb24", threads=1)
        return np.asarray(rgb.to_ndarray(), dtype=np.uint8)
