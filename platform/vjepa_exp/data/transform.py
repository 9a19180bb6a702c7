"""From decoded frames to clips of the input size: crop, then resize, all on uint8 (method facts sections 7 and 8).

Normalising to float is the trainer's work, on its device.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image

FramesTHWC = npt.NDArray[np.uint8]
Interpolation = Literal["bilinear", "bicubic"]
_TRIES = 10


class Box(NamedTuple):
    """A region of a frame, in pixels."""

    top: int
    left: int
    height: int
    width: int


def random_box(
    height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float], rng: np.random.Generator
) -> Box:
    """A box: area uniform in `scale`, width / height log-uniform in `ratio`; after ten tries the centred one."""
    for area_u, ratio_u, top_u, left_u in rng.random((_TRIES, 4)).tolist():
        area = height * width * (scale[0] + area_u * (scale[1] - scale[0]))
        low, high = math.log(ratio[0]), math.log(ratio[1])
        aspect = math.exp(low + ratio_u * (high - low))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return Box(int(top_u * (height - h + 1)), int(left_u * (width - w + 1)), h, w)
    w, h = width, height
    if width / height < ratio[0]:
        h = round(width / ratio[0])
    elif width / height > ratio[1]:
        w = round(height * ratio[1])
    return Box((height - h) // 2, (width - w) // 2, h, w)


def crop(
    frames_THWC: FramesTHWC, box: Box, size: int, interpolation: Interpolation, *, flip: bool, antialias: bool
) -> FramesTHWC:
    """One box of all frames, resized and perhaps mirrored, [T, size, size, 3]."""
    part_THWC = frames_THWC[:, box.top : box.top + box.height, box.left : box.left + box.width]
    resized_THWC = resize(part_THWC, size, size, interpolation, antialias=antialias)
    return _mirror(resized_THWC) if flip else resized_THWC


def spatial_views(frames_THWC: FramesTHWC, size: int, views: int, *, antialias: bool) -> FramesTHWC:
    """Deterministic square crops, [views, T, size, size, 3].

    One view: short side to size * 256 / 224, centre crop. More: short side to `size`, crops spread evenly along the
    long side.
    """
    height, width = frames_THWC.shape[1:3]
    short = int(size * 256 / 224) if views == 1 else size
    h, w = (short, short * width // height) if height <= width else (short * height // width, short)
    resized = resize(frames_THWC, h, w, antialias=antialias)
    if views == 1:
        top, left = round((h - size) / 2), round((w - size) / 2)
        return resized[None, :, top : top + size, left : left + size]
    step = (max(h, w) - size) // (views - 1)
    if h > w:
        return np.stack([resized[:, i * step : i * step + size] for i in range(views)])
    return np.stack([resized[:, :, i * step : i * step + size] for i in range(views)])


def resize(
    frames_THWC: FramesTHWC, height: int, width: int, interpolation: Interpolation = "bilinear", *, antialias: bool
) -> FramesTHWC:
    """Resize uint8 frames, pixel centres aligned (as `align_corners=False`).

    With `antialias` exactly as Pillow does, which the released image pipelines use; without it as torch does, the
    released video pipelines' way, rounded.
    """
    if frames_THWC.shape[1:3] == (height, width):
        return frames_THWC
    if antialias:
        how = Image.Resampling[interpolation.upper()]
        return np.stack([np.asarray(Image.fromarray(frame).resize((width, height), how)) for frame in frames_THWC])
    frames_TCHW = _channels_last(frames_THWC)
    if interpolation == "bicubic":  # torch's own on bytes was found up to 24 levels off
        exact_TCHW = F.interpolate(frames_TCHW.float(), (height, width), mode="bicubic")
        resized_TCHW = exact_TCHW.round_().clamp_(0, 255).to(torch.uint8)
    else:
        resized_TCHW = F.interpolate(frames_TCHW, (height, width), mode="bilinear")
    return resized_TCHW.permute(0, 2, 3, 1).numpy()


def _mirror(frames_THWC: FramesTHWC) -> FramesTHWC:
    flipped_TCHW = _channels_last(frames_THWC).flip(3)  # numpy's own reversal is ten times slower
    return flipped_TCHW.permute(0, 2, 3, 1).numpy()


def _channels_last(frames_THWC: FramesTHWC) -> torch.Tensor:
    """Frames as a tensor [T, C, H, W] in the memory order that is three times faster here; copied if read-only."""
    return torch.from_numpy(np.require(frames_THWC, requirements=("C", "W"))).permute(0, 3, 1, 2)
