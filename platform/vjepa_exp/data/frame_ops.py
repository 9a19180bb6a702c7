"""Operations of the augmentation policies on one frame, done by Pillow (method facts section 8).

What an operation does may depend on the frame (its histogram, its mean grey), as in the released code; its value never
does, so that all frames of a clip get the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance, ImageOps

FramesTHWC = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]


class Op(NamedTuple):
    """An operation and its value, in the unit that the operation takes."""

    name: str
    value: float = 0.0


def apply(frames_THWC: FramesTHWC, ops: Sequence[Op], fill: Colour) -> FramesTHWC:
    """The frames after all operations, one after the other; `fill` is the colour of what comes in from outside."""
    if not ops:
        return frames_THWC
    changed_THWC = np.empty_like(frames_THWC)
    for frame_HWC, out_HWC in zip(frames_THWC, changed_THWC, strict=True):
        image = Image.fromarray(frame_HWC)
        for op in ops:
            image = _OPS[op.name](image, op.value, fill)
        out_HWC[:] = np.asarray(image)
    return changed_THWC


def _affine(image: Image.Image, matrix: tuple[float, ...], fill: Colour) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=fill)


def _rotate(image: Image.Image, degrees: float, fill: Colour) -> Image.Image:
    return image.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=fill)


def _shear_x(image: Image.Image, shear: float, fill: Colour) -> Image.Image:
    return _affine(image, (1, shear, 0, 0, 1, 0), fill)


def _shear_y(image: Image.Image, shear: float, fill: Colour) -> Image.Image:
    return _affine(image, (1, 0, 0, shear, 1, 0), fill)


def _translate_x(image: Image.Image, share: float, fill: Colour) -> Image.Image:
    return _affine(image, (1, 0, share * image.width, 0, 1, 0), fill)


def _translate_y(image: Image.Image, share: float, fill: Colour) -> Image.Image:
    return _affine(image, (1, 0, 0, 0, 1, share * image.height), fill)


def _posterize(image: Image.Image, bits: float, _: Colour) -> Image.Image:
    mask = 256 - 2 ** (8 - int(bits))  # Pillow's own refuses to keep no bit, which the strongest level does
    return image.point([value & mask for value in range(256)] * 3)


def _solarize_add(image: Image.Image, add: float, _: Colour) -> Image.Image:
    return image.point([min(255, value + int(add)) if value < 128 else value for value in range(256)] * 3)


def _hue(image: Image.Image, turn: float, _: Colour) -> Image.Image:
    hue, saturation, value = image.convert("HSV").split()
    turned = hue.point([(level + int(turn * 255)) % 256 for level in range(256)])
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")


_OPS: dict[str, Callable[[Image.Image, float, Colour], Image.Image]] = {
    "auto_contrast": lambda image, _, __: ImageOps.autocontrast(image),
    "equalize": lambda image, _, __: ImageOps.equalize(image),
    "invert": lambda image, _, __: ImageOps.invert(image),
    "solarize": lambda image, threshold, _: ImageOps.solarize(image, int(threshold)),
    "color": lambda image, factor, _: ImageEnhance.Color(image).enhance(factor),
    "contrast": lambda image, factor, _: ImageEnhance.Contrast(image).enhance(factor),
    "brightness": lambda image, factor, _: ImageEnhance.Brightness(image).enhance(factor),
    "sharpness": lambda image, factor, _: ImageEnhance.Sharpness(image).enhance(factor),
    "rotate": _rotate,
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
    "posterize": _posterize,
    "solarize_add": _solarize_add,
    "hue": _hue,
}
