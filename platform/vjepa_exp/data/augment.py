"""Training clips from decoded frames: what is drawn for a clip, and the order in which it is done.

The released pipelines differ in that order (method facts section 8). Videos: RandAugment on whole frames, crop,
erasing. Images: crop, flip, AutoAugment, erasing. Here each policy has its own place, so that one pipeline holds both:
RandAugment, crop, flip, AutoAugment, colour jitter, erasing. The box to erase is only drawn here: its noise stands for
normalised pixels, and frames travel as bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from vjepa_exp.data.frame_ops import FramesTHWC, Op, apply
from vjepa_exp.data.transform import Box, crop, random_box
from vjepa_exp.spec.augment import AutoAugment, ColorJitter, CropFlip, RandAugment, RandomErasing

_TRIES = 10
_SMALLEST = 2.0**-53  # of the uniform numbers above zero
Value = Callable[[float, float], float]
"""(strength in [0, 1], sign) -> value of an operation."""

RAND_OPS: dict[str, Value] = {
    "auto_contrast": lambda _, __: 0.0,
    "equalize": lambda _, __: 0.0,
    "invert": lambda _, __: 0.0,
    "rotate": lambda strength, sign: sign * strength * 30,
    "posterize": lambda strength, _: 4 - int(strength * 4),
    "solarize": lambda strength, _: 256 - int(strength * 256),
    "solarize_add": lambda strength, _: int(strength * 110),
    "color": lambda strength, sign: 1 + sign * strength * 0.9,
    "contrast": lambda strength, sign: 1 + sign * strength * 0.9,
    "brightness": lambda strength, sign: 1 + sign * strength * 0.9,
    "sharpness": lambda strength, sign: 1 + sign * strength * 0.9,
    "shear_x": lambda strength, sign: sign * strength * 0.3,
    "shear_y": lambda strength, sign: sign * strength * 0.3,
    "translate_x": lambda strength, sign: sign * strength * 0.45,
    "translate_y": lambda strength, sign: sign * strength * 0.45,
}
"""The fifteen operations whose effect increases with their strength ("inc1")."""

_AUTO_VALUES: dict[str, Value] = {
    **{name: RAND_OPS[name] for name in ("auto_contrast", "equalize", "invert", "rotate", "shear_x")},
    "posterize": lambda strength, _: 4 + int(strength * 4),
    "solarize": lambda strength, _: int(strength * 256),
    "color": lambda strength, _: 0.1 + strength * 1.8,
    "contrast": lambda strength, _: 0.1 + strength * 1.8,
    "sharpness": lambda strength, _: 0.1 + strength * 1.8,
}

AUTO_POLICY: tuple[tuple[tuple[str, float, int], tuple[str, float, int]], ...] = (
    (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
    (("solarize", 0.6, 5), ("auto_contrast", 0.6, 5)),
    (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
    (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
    (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
    (("equalize", 0.4, 4), ("rotate", 0.8, 8)),
    (("solarize", 0.6, 3), ("equalize", 0.6, 7)),
    (("posterize", 0.8, 5), ("equalize", 1.0, 2)),
    (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
    (("equalize", 0.6, 8), ("posterize", 0.4, 6)),
    (("rotate", 0.8, 8), ("color", 0.4, 0)),
    (("rotate", 0.4, 9), ("equalize", 0.6, 2)),
    (("equalize", 0.0, 7), ("equalize", 0.8, 8)),
    (("invert", 0.6, 4), ("equalize", 1.0, 8)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("rotate", 0.8, 8), ("color", 1.0, 2)),
    (("color", 0.8, 8), ("solarize", 0.8, 7)),
    (("sharpness", 0.4, 7), ("invert", 0.6, 8)),
    (("shear_x", 0.6, 5), ("equalize", 1.0, 9)),
    (("color", 0.4, 0), ("equalize", 0.6, 3)),
    (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
    (("solarize", 0.6, 5), ("auto_contrast", 0.6, 5)),
    (("invert", 0.6, 4), ("equalize", 1.0, 8)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
)
"""Pairs of (operation, probability, strength of ten): AutoAugment's policy for ImageNet (arXiv 1805.09501, Table 9)."""


class Augmented(NamedTuple):
    """Frames [T, size, size, 3], and the box of them that noise is to replace."""

    frames: FramesTHWC
    erased: Box | None


def augment_clip(
    frames_THWC: FramesTHWC, spec: CropFlip, size: int, rng: np.random.Generator, *, antialias: bool
) -> Augmented:
    """Vary one clip: everything is drawn once and holds for all its frames.

    Flip and crop are drawn first, so that a policy more or less leaves them as they are.
    """
    flip = rng.random() < spec.flip
    height, width = frames_THWC.shape[1:3]
    box = random_box(height, width, spec.scale, spec.ratio, rng)
    policy, jitter = spec.policy, [] if spec.jitter is None else jitter_ops(spec.jitter, rng)
    if isinstance(policy, RandAugment):
        frames_THWC = apply(frames_THWC, rand_ops(policy, rng), policy.fill)
    cut_THWC = crop(frames_THWC, box, size, spec.interpolation, flip=flip, antialias=antialias)
    if isinstance(policy, AutoAugment):
        cut_THWC = apply(cut_THWC, auto_ops(rng), policy.fill)
    cut_THWC = apply(cut_THWC, jitter, (0, 0, 0))
    return Augmented(cut_THWC, None if spec.erasing is None else erasing_box(size, spec.erasing, rng))


def rand_ops(spec: RandAugment, rng: np.random.Generator) -> list[Op]:
    """The operations of RandAugment that are done, in their order."""
    names, ops = list(RAND_OPS), []
    for which, gate, strength, side in rng.random((spec.num_ops, 4)).tolist():
        name = names[int(which * len(names))]
        level = spec.magnitude
        if spec.magnitude_std > 0:
            level = NormalDist(spec.magnitude, spec.magnitude_std).inv_cdf(max(strength, _SMALLEST))
        if gate < spec.probability:
            ops.append(Op(name, RAND_OPS[name](min(max(level, 0.0), 10.0) / 10, _sign(side))))
    return ops


def auto_ops(rng: np.random.Generator) -> list[Op]:
    """The operations of one pair of AutoAugment that are done, in their order."""
    pair = AUTO_POLICY[int(rng.random() * len(AUTO_POLICY))]
    return [
        Op(name, _AUTO_VALUES[name](level / 10, _sign(side)))
        for (name, probability, level), (gate, side) in zip(pair, rng.random((2, 2)).tolist(), strict=True)
        if gate < probability
    ]


def jitter_ops(spec: ColorJitter, rng: np.random.Generator) -> list[Op]:
    """Changes of colour in random order; one whose range is empty is left out."""
    ranges = {"brightness": spec.brightness, "contrast": spec.contrast, "color": spec.saturation, "hue": spec.hue}
    values, order = rng.random(len(ranges)) * 2 - 1, np.argsort(rng.random(len(ranges)), kind="stable")
    ops = [
        Op(name, half * value + (0 if name == "hue" else 1))
        for (name, half), value in zip(ranges.items(), values.tolist(), strict=True)
    ]
    return [ops[i] for i in order.tolist() if ranges[ops[i].name] > 0]


def erasing_box(size: int, spec: RandomErasing, rng: np.random.Generator) -> Box | None:
    """Where a square clip of `size` pixels is erased: smaller than it in both directions; None if no box fits."""
    if rng.random() >= spec.probability:
        return None
    low, high = math.log(spec.ratio[0]), math.log(spec.ratio[1])
    for area_u, ratio_u, top_u, left_u in rng.random((_TRIES, 4)).tolist():
        area = size**2 * (spec.area[0] + area_u * (spec.area[1] - spec.area[0]))
        ratio = math.exp(low + ratio_u * (high - low))
        h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < h < size and 0 < w < size:
            return Box(int(top_u * (size - h + 1)), int(left_u * (size - w + 1)), h, w)
    return None


def _sign(uniform: float) -> float:
    return -1.0 if uniform < 0.5 else 1.0
