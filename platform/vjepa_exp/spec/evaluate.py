"""Frozen evaluation: probes trained on the features of the y-encoder (paper section 4, Table 9)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

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


class _Probe(Spec):
    dataset: Name
    clip: ClipSpec
    clips: PositiveInt = Field(1, description="Segments per video, in training and in the test.")
    views: Annotated[int, Field(ge=1, le=3)] = Field(1, description="Spatial views in the test.")
    label_fraction: Fraction = 1.0
    augment: Augment = CropFlip(scale=(0.08, 1.0), ratio=(0.75, 4 / 3))
    optim: ProbeOptimSpec = ProbeOptimSpec()
    precision: Literal["fp32", "bf16"] = "bf16"


class AttentiveProbe(_Probe):
    """A learnt query, one cross-attention block and a linear classifier."""

    kind: Literal["attentive_probe"]
    depth: PositiveInt = 1


class LinearProbe(_Probe):
    """Average pooling and a linear classifier (Table 3)."""

    kind: Literal["linear_probe"]


ProbeSpec = Annotated[AttentiveProbe | LinearProbe, Field(discriminator="kind")]
