"""The reader for images: one frame each."""

from __future__ import annotations

import numpy as np
from PIL import Image

from vjepa_exp.data.readers import DecodeError, Frames, FramesTHWC, first_line


def decode(path: str, frames: Frames) -> FramesTHWC:
    """Decode an image as a video of one frame (see `readers.decode`)."""
    if frames[-1] > 0:
        raise DecodeError("short", path, f"an image has one frame, frame {frames[-1]} asked for")
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))[None]
    except (OSError, SyntaxError, ValueError, MemoryError, Image.DecompressionBombError) as error:
        raise DecodeError("open", path, first_line(error)) from None
