"""Data sets as inputs of MLflow runs: what the recipe holds, and nothing that would have to be read."""

from __future__ import annotations

import json
from pathlib import Path

from vjepa_exp.spec.datasets import Registry
from vjepa_exp.track.inputs import CONTEXTS, dataset_inputs, evaluated_on

MIXTURE = [{"dataset": "tiny_motion", "weight": 3.0}, {"dataset": "tiny_appearance", "weight": 1.0}]


def stage_of(study, kind: str):
    return next(stage for stage in study.plan.stages if stage.kind == kind)


def test_runs_are_found_by_the_data_sets_that_they_read(study) -> None:
    study.tracker().sync(study.finish(), {}, {}, ended=True)
    client, runs = study.client(), study.runs()
    experiment = [next(iter(runs.values())).info.experiment_id]
    for query, kinds in (
        ("dataset.context = 'training'", {"pretrain", "probe"}),
        ("dataset.context = 'evaluation'", {"probe"}),
        ("dataset.name = 'tiny_motion/val'", {"probe"}),
        ("dataset.name LIKE 'tiny_motion/%'", {"pretrain", "probe"}),
    ):
        found = {run.data.tags["stage"] for run in client.search_runs(experiment, query)}
        assert found == {stage.id for stage in study.plan.stages if stage.kind in kinds}, query


def test_name_digest_and_place_are_what_the_recipe_and_the_store_hold(study) -> None:
    probe = stage_of(study, "probe")
    inputs = dataset_inputs(probe, study.store, study.plan.manifests)
    assert [one.dataset.name for one in inputs] == ["tiny_motion/train", "tiny_motion/val"]
    for one, context in zip(inputs, CONTEXTS.values(), strict=True):
        digest = probe.recipe.digests["tiny_motion"]
        assert digest.startswith(one.dataset.digest)
        assert len(one.dataset.digest) == 32
        assert json.loads(one.dataset.profile)["digest"] == digest
        assert json.loads(one.dataset.source)["uri"] == str(study.store.path(stage_of(study, "data")).resolve())
        assert {tag.key: tag.value for tag in one.tags}["mlflow.data.context"] == context
    assert evaluated_on(probe) == {"dataset_name": "tiny_motion/val", "dataset_digest": inputs[1].dataset.digest}


def test_shares_of_a_mixture_are_tags_of_the_inputs(make_study) -> None:
    recipe = {
        "pretrain": {"data": {"mixture": MIXTURE}, "optim": {"iterations": 20, "warmup": 2}},
        "evaluate": {"motion": {"kind": "linear_probe", "dataset": "tiny_motion"}},
    }
    study = make_study(recipe=recipe)
    inputs = dataset_inputs(study.pretraining, study.store, study.plan.manifests)
    shares = {one.dataset.name: {tag.key: tag.value for tag in one.tags}["weight"] for one in inputs}
    assert shares == {"tiny_motion/train": "3.0", "tiny_appearance/train": "1.0"}
    assert evaluated_on(study.pretraining) == {}


def test_a_registered_set_is_named_by_its_manifest(make_study, tmp_path: Path) -> None:
    (tmp_path / "mine.parquet").write_bytes(b"a manifest")
    (tmp_path / "datasets.yaml").write_text("datasets: {mine: {manifest: mine.parquet}}\n")
    assert Registry(tmp_path / "datasets.yaml").has("mine")
    recipe = {
        "pretrain": {"data": {"mixture": [{"dataset": "mine"}]}, "optim": {"iterations": 20, "warmup": 2}},
        "evaluate": {"motion": {"kind": "linear_probe", "dataset": "mine"}},
    }
    study = make_study(recipe=recipe)
    (one,) = dataset_inputs(study.pretraining, study.store, study.plan.manifests)
    assert json.loads(one.dataset.source)["uri"] == str(tmp_path / "mine.parquet")


def test_making_data_reads_none(study) -> None:
    assert dataset_inputs(stage_of(study, "data"), study.store, study.plan.manifests) == []
