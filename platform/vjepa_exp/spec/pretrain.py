"""The pretraining recipe: data, masks, objective, optimisation (paper Table 8)."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from vjepa_exp.spec.base import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Spec
from vjepa_exp.spec.data import DataSpec
from vjepa_exp.spec.masks import PAPER_MASKS, MaskSpec

Momentum = Annotated[float, Field(ge=0, le=1)]


class FeaturesObjective(Spec):
    """Predict LayerNormed features of the y-encoder; |difference|^exponent / exponent (equation 1)."""

    kind: Literal["features"] = "features"
    exponent: PositiveFloat = 1.0


class PixelsObjective(Spec):
    """Predict the per-patch normalised pixels of the target region, mean squared error (Table 1)."""

    kind: Literal["pixels"]


Objective = Annotated[FeaturesObjective | PixelsObjective, Field(discriminator="kind")]


class OptimSpec(Spec):
    """AdamW and its schedules. Steps count from 1; rates are per step (method facts section 6)."""

    batch_size: PositiveInt = Field(3072, description="Clips per step over all workers.")
    iterations: PositiveInt = 90_000
    warmup: NonNegativeInt = Field(12_000, description="Steps of linear warm-up from start_lr to lr.")
    start_lr: NonNegativeFloat = 2e-4
    lr: PositiveFloat = 6.25e-4
    final_lr: NonNegativeFloat = 1e-6
    weight_decay: NonNegativeFloat = 0.04
    final_weight_decay: NonNegativeFloat = 0.4
    ema: Momentum = 0.998
    final_ema: Momentum = 1.0
    schedule_scale: Annotated[float, Field(ge=1)] = Field(
        1.25, description="Schedules are laid out over this multiple of `iterations` and cut off."
    )
    clip_grad: PositiveFloat | None = Field(10.0, description="Max norm, encoder and predictor apart.")
    clip_grad_after: NonNegativeInt = Field(12_300, description="Clipping starts after this step.")
    betas: tuple[Momentum, Momentum] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8

    @model_validator(mode="after")
    def _warmup(self) -> Self:
        if self.warmup >= self.iterations:
            raise ValueError(f"warmup {self.warmup} must be below iterations {self.iterations}")
        return self


class PretrainSpec(Spec):
    """Everything that decides the pretrained weights, besides the model and the seed."""

    data: DataSpec
    masks: tuple[MaskSpec, ...] = Field(PAPER_MASKS, min_length=1)
    mask_group_size: PositiveInt = Field(
        24,
        description="Clips that share a block size and are cut to a common length: the per-device batch of the "
        "released runs, which changes the task; independent of the devices used here.",
    )
    mask_truncate: Literal["first", "random"] = Field(
        "first", description="first: keep the earliest tokens (released code); random: a uniform subset."
    )
    objective: Objective = FeaturesObjective()
    optim: OptimSpec = OptimSpec()
    precision: Literal["fp32", "bf16"] = "bf16"

    @model_validator(mode="after")
    def _groups(self) -> Self:
        if self.optim.batch_size % self.mask_group_size:
            raise ValueError(
                f"optim.batch_size {self.optim.batch_size} is not a multiple of mask_group_size {self.mask_group_size}"
            )
        return self
