"""Checkpoints as logged models: a description that leads to the weights, and no copy of them."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest


@pytest.fixture
def models(study):
    """Logged models by stage, of a finished study."""
    study.tracker().sync(study.finish(), {}, {}, ended=True)
    experiment = study.runs()[study.pretraining.id].info.experiment_id
    return {model.tags["stage"]: model for model in study.client().search_logged_models([experiment])}


def test_the_description_leads_to_the_weights(study, models, tmp_path: Path) -> None:
    assert {model.model_type for model in models.values()} == {"encoder", "probe"}
    for stage in study.plan.stages:
        if stage.kind == "data":
            assert stage.id not in models
            continue
        folder = Path(unquote(urlsplit(models[stage.id].artifact_location).path))
        assert [path.name for path in folder.rglob("*")] == ["checkpoint.json"]
        described = json.loads((folder / "checkpoint.json").read_text())
        (weights,) = described["weights"]
        file = Path(unquote(urlsplit(weights["uri"]).path))
        assert file.read_text() == "weights"
        assert (weights["bytes"], described["fingerprint"]) == (len("weights"), stage.fingerprint)
        assert described["recipe"] == json.loads((study.store.path(stage) / "record.json").read_text())["recipe"]
        assert ("export" in described) == (stage.kind == "pretrain")


def test_scores_belong_to_the_model_and_its_data_set(study, models) -> None:
    probe = next(stage for stage in study.plan.stages if stage.kind == "probe")
    (score,) = (metric for metric in models[probe.id].metrics if metric.key == "final.top1")
    assert (score.value, score.dataset_name) == (50.0, "tiny_motion/val")
    run = study.runs()[probe.id]
    assert [model.model_id for model in run.outputs.model_outputs] == [models[probe.id].model_id]


def test_a_stage_that_is_not_done_has_no_model(study) -> None:
    study.begin(steps=5)
    study.tracker().sync({}, {}, {study.pretraining.fingerprint: 1.0}, ended=True)
    run = study.runs()[study.pretraining.id]
    assert study.client().search_logged_models([run.info.experiment_id]) == []
