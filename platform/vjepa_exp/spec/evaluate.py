"""How encoders are evaluated: frozen probes (Table 9), detection heads (Table 10), fine-tuning (Table 11)."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from vjepa_exp.spec.augment import Augment, CropFlip
from vjepa_exp.spec.base import (
    Fraction,
    Name,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Spec,
)
from vjepa_exp.spec.data import ClipSpec
from vjepa_exp.spec.sweep import ProbeSweep
from vjepa_exp.spec.vary import LogUniform


class ProbeOptimSpec(Spec):
    """AdamW with a cosine from `lr` to `final_lr`, no warm-up in the paper."""

    batch_size: PositiveInt = Field(256, description="Videos (or images) per step over all workers.")
    epochs: PositiveInt = 20
    warmup_epochs: NonNegativeInt = 0
    lr: PositiveFloat = 1e-3
    final_lr: NonNegativeFloat = 0.0
    weight_decay: NonNegativeFloat = 0.01
    final_weight_decay: NonNegativeFloat = Field(1e-6, description="The released code decays it by a cosine.")
    clip_grad: PositiveFloat | None = 1.0

    @model_validator(mode="after")
    def _warm(self) -> Self:
        if self.warmup_epochs > self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs} is more than epochs {self.epochs}")
        return self


Seed = Annotated[int, Field(ge=0, lt=2**63)]


class _Evaluation(Spec):
    dataset: Name
    clip: ClipSpec
    seeds: tuple[Seed, ...] = Field(
        (),
        description="Repeat it with these seeds on the same encoder: other label splits, orders and initialisations "
        "(Table 7: three splits). Empty: the seed of the recipe.",
    )

    @model_validator(mode="after")
    def _seeds(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: a seed is listed twice")
        return self

    def once(self) -> Self:
        """The evaluation under one seed, which is not part of it."""
        return self.model_copy(update={"seeds": ()})


class _Probe(_Evaluation):
    clips: PositiveInt = Field(1, description="Segments per video, in training and in the test.")
    views: Annotated[int, Field(ge=1, le=3)] = Field(1, description="Spatial views in the test.")
    label_fraction: Fraction = 1.0
    augment: Augment = CropFlip(scale=(0.08, 1.0), ratio=(0.75, 4 / 3))
    optim: ProbeOptimSpec = ProbeOptimSpec()
    sweep: ProbeSweep | None = Field(
        None,
        description="Choose settings of `optim` anew for every encoder, on held-out training videos.",
        exclude_if=lambda sweep: sweep is None,  # a probe without one is the same work as before there were any
    )
    precision: Literal["fp32", "bf16"] = "bf16"

    @model_validator(mode="after")
    def _sweep(self) -> Self:
        if self.sweep and (self.sweep.halve_every or 0) > self.optim.epochs:
            raise ValueError(
                f"sweep.halve_every {self.sweep.halve_every} is more than optim.epochs {self.optim.epochs}"
            )
        for field, distribution in self.sweep.space.items() if self.sweep else ():
            ends = (
                (distribution.low, distribution.high) if isinstance(distribution, LogUniform) else distribution.values
            )
            for value in ends:
                try:
                    ProbeOptimSpec.model_validate(self.optim.model_dump() | {field: value})
                except ValidationError as error:
                    message = error.errors()[0]["msg"].removeprefix("Value error, ")
                    raise ValueError(f"sweep.space.{field} may give {value}: {message}") from None
        return self


class AttentiveProbe(_Probe):
    """A learnt query, one cross-attention block and a linear classifier."""

    kind: Literal["attentive_probe"]
    depth: PositiveInt = 1


class LinearProbe(_Probe):
    """Average pooling and a linear classifier (Table 3)."""

    kind: Literal["linear_probe"]


ProbeSpec = Annotated[AttentiveProbe | LinearProbe, Field(discriminator="kind")]
PROBES = ("attentive_probe", "linear_probe")
"""Kinds of evaluation that train a classifier on frozen features."""


class HeadOptimSpec(Spec):
    """AdamW with linear warm-up by epochs and a cosine, in the manner of VideoMAE (Tables 10 and 11)."""

    batch_size: PositiveInt
    epochs: PositiveInt
    lr: PositiveFloat
    warmup_lr: NonNegativeFloat = 1e-6
    min_lr: NonNegativeFloat = 1e-6
    warmup_epochs: NonNegativeInt
    weight_decay: NonNegativeFloat = 0.05
    betas: tuple[NonNegativeFloat, NonNegativeFloat] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8


class Detection(_Evaluation):
    """A linear head on boxes: RoI features of several layers of the frozen encoder, mAP (Table 10)."""

    kind: Literal["detection"]
    layers_before_last: tuple[NonNegativeInt, ...] = Field(
        (6, 4, 2, 0), min_length=1, description="Layers whose features are joined, counted back from the last."
    )
    classes: PositiveInt = Field(60, description="The commonest classes that the score is the mean of.")
    optim: HeadOptimSpec


class FinetuneOptimSpec(HeadOptimSpec):
    """One column of Table 11."""

    layer_decay: Fraction = 0.75
    drop_path: NonNegativeFloat
    head_drop: NonNegativeFloat


class MixupSpec(Spec):
    """Mixed clips of a batch (Table 11)."""

    mixup: NonNegativeFloat = 0.8
    cutmix: NonNegativeFloat = 1.0
    probability: Annotated[float, Field(ge=0, le=1)] = 1.0
    switch_probability: Annotated[float, Field(ge=0, le=1)] = 0.5
    label_smoothing: NonNegativeFloat = 0.1


class Finetune(_Evaluation):
    """The whole encoder and a linear head trained on the labels (Table 11)."""

    kind: Literal["finetune"]
    clips: PositiveInt = Field(description="Temporal clips in the test; training takes one.")
    views: Annotated[int, Field(ge=1, le=3)] = 3
    num_samples: PositiveInt = Field(2, description="Augmented samples of each decoded clip in a step.")
    augment: Augment
    mixup: MixupSpec = MixupSpec()
    optim: dict[Name, FinetuneOptimSpec] = Field(
        min_length=1, description="By architecture, as in Table 11; an architecture not named takes the first."
    )

    def of_arch(self, arch: str) -> Finetune:
        """With the settings of one architecture alone."""
        settings = self.optim.get(arch) or next(iter(self.optim.values()))
        return self.model_copy(update={"optim": {arch: settings}})


EvaluationSpec = Annotated[AttentiveProbe | LinearProbe | Detection | Finetune, Field(discriminator="kind")]
