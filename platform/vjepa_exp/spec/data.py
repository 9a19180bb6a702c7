"""What the model is shown: data sets and their mixture, clips, augmentation (paper section 3.4, appendix B)."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from vjepa_exp.spec.base import Fraction, Name, PositiveFloat, PositiveInt, Spec


class ClipSpec(Spec):
    """A clip [C, T, H, W]: `num_frames` frames, `frame_step` apart, square of `resolution` pixels."""

    num_frames: PositiveInt = 16
    frame_step: PositiveInt = 4
    resolution: PositiveInt = 224
    indexing: Literal["parity", "exact"] = Field(
        "parity",
        description="parity: the reference's linspace over num_frames*frame_step frames (average spacing a "
        "little over frame_step); exact: every frame_step-th frame.",
    )


class MixtureEntry(Spec):
    """One data set of a mixture; without weights the sets are sampled in proportion to their sizes."""

    dataset: Name
    weight: PositiveFloat | None = None


class NoAugment(Spec):
    """Deterministic clips: the middle of the video, short side resized, centre crop."""

    kind: Literal["none"] = "none"


class CropFlip(Spec):
    """Random temporal start, one random resized crop for all frames, horizontal flip (paper Tables 8 and 9)."""

    kind: Literal["crop_flip"] = "crop_flip"
    scale: tuple[Fraction, Fraction] = (0.3, 1.0)
    ratio: tuple[PositiveFloat, PositiveFloat] = (0.75, 1.35)
    flip: Annotated[float, Field(ge=0, le=1, description="Probability of a horizontal flip.")] = 0.5

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in ("scale", "ratio"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: the lower bound {low} is above the upper bound {high}")
        return self


Augment = Annotated[NoAugment | CropFlip, Field(discriminator="kind")]


class DataSpec(Spec):
    """The stream of pretraining clips."""

    mixture: tuple[MixtureEntry, ...] = Field(min_length=1)
    clip: ClipSpec = ClipSpec()
    augment: Augment = CropFlip()

    @model_validator(mode="after")
    def _weights(self) -> Self:
        names = [entry.dataset for entry in self.mixture]
        if len(set(names)) < len(names):
            raise ValueError(f"mixture names a data set twice: {', '.join(names)}")
        with_weight = sum(entry.weight is not None for entry in self.mixture)
        if with_weight not in (0, len(self.mixture)):
            raise ValueError("mixture: give every data set a weight, or none")
        return self
