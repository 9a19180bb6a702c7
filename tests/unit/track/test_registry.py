"""The best variant: which one it is, and what the registry of MLflow holds of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from vjepa_exp.graph.plan import Cell
from vjepa_exp.track.registry import find_best

NAME = "study-paper"
PRETRAIN = {"data": {"mixture": [{"dataset": "tiny_motion"}]}, "optim": {"iterations": 20, "warmup": 2}}
PROBES = {name: {"kind": "linear_probe", "dataset": f"tiny_{name}"} for name in ("motion", "appearance")}


def of(low: float, high: float) -> Callable[[Cell], float]:
    """The same score in all cells of a variant."""
    return lambda cell: {"low": low, "high": high}[cell.variant]


def test_the_best_has_the_highest_mean_over_columns_and_seeds(make_study) -> None:
    study = make_study(recipe={"pretrain": PRETRAIN, "evaluate": PROBES}, seeds=[3, 1], baselines=["random_init"])
    scores = {
        ("low", "motion"): {3: 60.0, 1: 60.0},
        ("low", "appearance"): {3: 40.0, 1: 41.0},
        ("high", "motion"): {3: 99.0, 1: 11.0},  # the luckiest seed, and the best column
        ("high", "appearance"): {3: 90.0, 1: 0.0},
    }
    records = study.finish(lambda cell: 100.0 if cell.baseline else scores[cell.variant, cell.column][cell.seed])
    best = find_best(study.plan, records)
    assert best is not None
    assert (best.variant.name, best.score, best.among) == ("low", pytest.approx(50.25), 2)
    assert best.encoder == study.plan.pretraining["low", 3]
    for fact in ("of 2 variants", "motion, appearance", "seeds 3, 1", "encoder of seed 3", "validation"):
        assert fact in best.rule


def test_only_columns_that_all_variants_have_are_compared(make_study) -> None:
    recipe = {"pretrain": PRETRAIN, "evaluate": PROBES}
    study = make_study(recipe=recipe)
    records = study.finish(
        lambda cell: {"motion": {"low": 30.0, "high": 20.0}}.get(cell.column, {}).get(cell.variant, 99)
    )
    fewer = [cell for cell in study.plan.cells if (cell.variant, cell.column) != ("low", "appearance")]
    best = find_best(replace(study.plan, cells=tuple(fewer)), records)
    assert best is not None
    assert (best.variant.name, best.columns) == ("low", ("motion",))


def test_nothing_is_the_best_where_nothing_is_evaluated(make_study) -> None:
    study = make_study(recipe={"pretrain": PRETRAIN, "evaluate": {}})
    assert find_best(study.plan, study.finish()) is None
    study.tracker().sync(study.finish(), {}, {}, ended=True)
    assert study.tracker().up_to_date()
    assert study.client().search_registered_models() == []


def test_an_unfinished_study_registers_nothing(study) -> None:
    records = study.finish()
    left = {key: record for key, record in records.items() if record.kind != "probe"}
    study.tracker().sync(left, {}, {}, ended=True)
    assert study.client().search_registered_models() == []


def test_the_alias_follows_the_best_and_a_version_is_made_once(make_study) -> None:
    first = make_study()
    tracker = first.tracker()
    tracker.sync(first.finish(of(low=30, high=60)), {}, {}, ended=True)
    client = first.client()
    version = client.get_model_version_by_alias(NAME, "best")
    encoder = first.plan.pretraining["high", 234]
    assert version.tags["fingerprint"] == encoder.fingerprint
    assert (version.tags["variant"], version.tags["score"]) == ("lr = high", "60.0000")
    assert version.run_id == tracker.run_id(encoder)
    assert client.get_logged_model(version.tags["model_id"]).tags["stage"] == encoder.id

    # The same encoders under other probes: another study of the same name.
    probes = {"motion": {"kind": "linear_probe", "dataset": "tiny_motion", "label_fraction": 0.5}}
    for fraction, low, high, found in ((0.5, 10, 20, 1), (0.4, 20, 10, 2), (0.3, 10, 70, 1)):
        probes["motion"]["label_fraction"] = fraction
        again = make_study(recipe={"pretrain": PRETRAIN, "evaluate": probes})
        again.tracker().sync(again.finish(of(low, high)), {}, {}, ended=True)
        assert int(client.get_model_version_by_alias(NAME, "best").version) == found
    assert len(client.search_model_versions(f"name = '{NAME}'")) == 2
    assert client.get_model_version_by_alias(NAME, "best").tags["score"] == "70.0000"
