"""The reader by torchcodec, for those who have it: an extra of the installation that needs FFmpeg on the machine."""

from __future__ import annotations

import numpy as np
from torchcodec.decoders import VideoDecoder

from vjepa_exp.data.readers import DecodeError, Frames, FramesTHWC, first_line


def decode(path: str, frames: Frames) -> FramesTHWC:
    """Decode the frames with the given numbers (see `readers.decode`)."""
    try:
        decoder = VideoDecoder(path, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact")
    except (RuntimeError, ValueError, OSError) as error:
        raise DecodeError("open", path, first_line(error)) from None
    if frames[-1] >= len(decoder):
        raise DecodeError("short", path, f"{len(decoder)} frames, frame {frames[-1]} asked for")
    try:
        return np.asarray(decoder.get_frames_at(frames.tolist()).data.numpy(), dtype=np.uint8)
    except (RuntimeError, ValueError, IndexError) as error:
        raise DecodeError("corrupt", path, first_line(error)) from None
