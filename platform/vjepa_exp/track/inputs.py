"""The data sets of a stage as inputs of its MLflow run.

Name and digest are what the recipe holds: no data is read. A split is a data set of its own (`k400/train`), because
MLflow takes a data set once per run and a probe is trained on one split and tested on another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vjepa_exp.graph.stage import Stage
from vjepa_exp.graph.store import Store
from vjepa_exp.spec.datasets import DEMO_SETS
from vjepa_exp.spec.stages import PretrainRecipe, ProbeRecipe

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

CONTEXTS = {"train": "training", "val": "evaluation"}
DIGEST_LENGTH = 32  # MLflow takes 36 characters; the whole digest stands in the profile


@dataclass(frozen=True)
class _Use:
    """A split that a stage reads, and what it does with it."""

    dataset: str
    digest: str
    split: Literal["train", "val"]
    how: Mapping[str, float | str | None] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """By which MLflow knows the split."""
        return f"{self.dataset}/{self.split}"


def dataset_inputs(stage: Stage, store: Store, manifests: Mapping[str, Path]) -> list[DatasetInput]:
    """What a pretraining or a probe reads; empty for other stages.

    Each carries its context as MLflow's own tag, so that runs are found by `dataset.context = 'training'`, and what the
    stage does with it (share of a mixture, digest of a removal list, fraction of the labels) as tags of the input.

    Args:
        stage: the stage.
        store: where the stages that make demo sets leave them.
        manifests: of registered data sets.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = []
    for use in _uses(stage):
        profile = {"digest": use.digest, "split": use.split}
        source = {"uri": str(manifests.get(use.dataset) or _made_in(stage, store, use.dataset))}
        digest = use.digest[:DIGEST_LENGTH]
        dataset = Dataset(use.name, digest, "local", json.dumps(source), profile=json.dumps(profile))
        how = {key: str(value) for key, value in use.how.items() if value is not None}
        tags = {"mlflow.data.context": CONTEXTS[use.split], **how}
        inputs.append(DatasetInput(dataset, [InputTag(key, value) for key, value in tags.items()]))
    return inputs


def evaluated_on(stage: Stage) -> dict[str, str]:
    """The data set that a stage's scores belong to, in the words of MLflow's metrics; empty where there is none."""
    tested = next((use for use in _uses(stage) if use.split == "val"), None)
    return {"dataset_name": tested.name, "dataset_digest": tested.digest[:DIGEST_LENGTH]} if tested else {}


def _uses(stage: Stage) -> list[_Use]:
    recipe = stage.recipe
    if isinstance(recipe, PretrainRecipe):
        return [
            _Use(e.dataset, recipe.digests[e.dataset], "train", {"weight": e.weight, "exclude": e.exclude})
            for e in recipe.pretrain.data.mixture
        ]
    if isinstance(recipe, ProbeRecipe):
        name, digest = recipe.probe.dataset, recipe.digests[recipe.probe.dataset]
        return [
            _Use(name, digest, "train", {"label_fraction": recipe.probe.label_fraction}),
            _Use(name, digest, "val"),
        ]
    return []


def _made_in(stage: Stage, store: Store, dataset: str) -> Path:
    """The folder of the stage that made a demo set."""
    family, _ = DEMO_SETS[dataset]
    return store.path(next(made for made in stage.inputs if (made.kind, made.name) == ("data", family))).resolve()
