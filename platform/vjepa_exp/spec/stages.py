"""What decides the result of one stage; its canonical JSON and its inputs' fingerprints are its identity."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vjepa_exp.spec.base import Name, Spec
from vjepa_exp.spec.datasets import MANIFEST_FORMAT
from vjepa_exp.spec.evaluate import Detection, EvaluationSpec, Finetune, ProbeSpec
from vjepa_exp.spec.model import ModelSpec
from vjepa_exp.spec.pretrain import PretrainSpec

Digests = dict[Name, str]
"""Data set -> digest of its content (of its manifest, or of the demo generator's settings)."""


class DataRecipe(Spec):
    """Make one family of demo data."""

    kind: Literal["data"] = "data"
    family: Literal["demo", "tiny"]
    digest: str
    manifest: int = MANIFEST_FORMAT


class PretrainRecipe(Spec):
    """Pretrain one encoder; `pretrain.optim`, `pretrain.data` and `pretrain.masks` as in the recipe."""

    kind: Literal["pretrain"] = "pretrain"
    seed: int
    model: ModelSpec
    pretrain: PretrainSpec
    digests: Digests


class ProbeRecipe(Spec):
    """Train and test one probe on a frozen encoder: that of the stage's pretrain input, or a random one."""

    kind: Literal["probe"] = "probe"
    seed: int
    model: ModelSpec
    encoder: Literal["pretrained", "random_init"]
    probe: ProbeSpec
    digests: Digests


class FinetuneRecipe(Spec):
    """Train a pretrained encoder and a head on labels, end to end."""

    kind: Literal["finetune"] = "finetune"
    seed: int
    model: ModelSpec
    finetune: Finetune
    digests: Digests


class DetectRecipe(Spec):
    """Train and test a head on boxes on a frozen encoder."""

    kind: Literal["detect"] = "detect"
    seed: int
    model: ModelSpec
    detection: Detection
    digests: Digests


class ReleasedRecipe(Spec):
    """Evaluate somebody else's model."""

    kind: Literal["released"] = "released"
    seed: int
    weights: Name
    evaluation: EvaluationSpec
    digests: Digests


StageRecipe = Annotated[
    DataRecipe | PretrainRecipe | ProbeRecipe | FinetuneRecipe | DetectRecipe | ReleasedRecipe,
    Field(discriminator="kind"),
]
