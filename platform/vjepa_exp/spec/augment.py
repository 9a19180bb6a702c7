"""How training clips are varied: crop, flip, operations on whole frames, colour, erasing (paper Tables 8, 9 and 11).

What is drawn for a clip holds for all its frames. Defaults are those of the released code where it has the part.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from vjepa_exp.spec.base import Fraction, NonNegativeFloat, PositiveFloat, PositiveInt, Spec

Probability = Annotated[float, Field(ge=0, le=1)]
Strength = Annotated[float, Field(ge=0, le=1)]
Byte = Annotated[int, Field(ge=0, le=255)]
Colour = tuple[Byte, Byte, Byte]


class NoAugment(Spec):
    """Deterministic clips: the middle of the video, short side resized, centre crop."""

    kind: Literal["none"] = "none"


class RandAugment(Spec):
    """Operations drawn out of fifteen, with replacement, on whole frames before the crop.

    As it stands `rand-m7-n4-mstd0.5-inc1`, which the released video probes and fine-tuning (Table 11) use.
    """

    kind: Literal["rand_augment"] = "rand_augment"
    num_ops: PositiveInt = Field(4, description="Operations drawn for a clip.")
    probability: Probability = Field(0.5, description="Of each drawn operation to be done.")
    magnitude: Annotated[float, Field(ge=0, le=10)] = Field(7.0, description="Mean strength, of 10.")
    magnitude_std: NonNegativeFloat = Field(0.5, description="Of the normal distribution that strengths come from.")
    fill: Colour = Field((128, 128, 128), description="Where a turned or shifted frame has no pixel.")


class AutoAugment(Spec):
    """One of the 25 pairs of operations of the ImageNet policy, on the cropped frames ("original" in timm).

    The released image probes use it (Table 9).
    """

    kind: Literal["auto_augment"] = "auto_augment"
    fill: Colour = Field((124, 116, 104), description="Where a turned frame has no pixel: ImageNet's mean.")


class ColorJitter(Spec):
    """Brightness, contrast and saturation multiplied by up to 1 +- x, hue turned, in random order (Table 11: 0.4)."""

    brightness: Strength = 0.4
    contrast: Strength = 0.4
    saturation: Strength = 0.4
    hue: Annotated[float, Field(ge=0, le=0.5)] = Field(0.0, description="Largest turn, of a whole circle.")


class RandomErasing(Spec):
    """A box of normal noise instead of the normalised pixels: one box for all frames, new noise in each."""

    probability: Probability = Field(0.25, description="Of a clip to have a box.")
    area: tuple[Fraction, Fraction] = Field((0.02, 1 / 3), description="Share of the clip's area, uniform.")
    ratio: tuple[PositiveFloat, PositiveFloat] = Field((0.3, 1 / 0.3), description="Height / width, log-uniform.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_order(self, "area", "ratio")
        return self


class CropFlip(Spec):
    """Random temporal start, one random resized crop for all frames, horizontal flip; more where it is asked for."""

    kind: Literal["crop_flip"] = "crop_flip"
    scale: tuple[Fraction, Fraction] = Field((0.3, 1.0), description="Area of the crop, share of the frame.")
    ratio: tuple[PositiveFloat, PositiveFloat] = Field((0.75, 1.35), description="Width / height of the crop.")
    interpolation: Literal["bilinear", "bicubic"] = Field(
        "bilinear", description="Of the crop's resize. Images are smoothed when they shrink, videos are not."
    )
    flip: Annotated[float, Field(ge=0, le=1, description="Probability of a horizontal flip.")] = 0.5
    policy: Annotated[RandAugment | AutoAugment, Field(discriminator="kind")] | None = None
    jitter: ColorJitter | None = None
    erasing: RandomErasing | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_order(self, "scale", "ratio")
        return self


Augment = Annotated[NoAugment | CropFlip, Field(discriminator="kind")]


def _check_order(spec: Spec, *names: str) -> None:
    for name in names:
        low, high = getattr(spec, name)
        if low > high:
            raise ValueError(f"{name}: the lower bound {low} is above the upper bound {high}")
