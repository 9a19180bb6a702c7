"""A sweep nested in a study, run for real: every encoder gets settings of its own, chosen on held-out videos."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from rich.console import Console

from vjepa_exp.graph.plan import Plan
from vjepa_exp.graph.store import Store
from vjepa_exp.runtime.runner import run
from vjepa_exp.spec.datasets import Registry

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(600)]

SWEEP = "recipe.evaluate.clips.sweep={space: {lr: {kind: grid, values: [0.001, 0.00001]}}, holdout: 0.3}"


def test_the_chosen_settings_give_the_number_of_the_plain_probe(
    make_plan: Callable[..., tuple[Plan, Registry]], make_store: Callable[..., Store]
) -> None:
    store = make_store("runs", "pretrain", "probe")
    plan, registry = make_plan(SWEEP, "execution.concurrent_trials=2")
    result = run(plan, store, registry, Console(quiet=True))
    assert result.complete, result.failed
    probes = {stage.recipe.encoder: stage for stage in plan.stages if stage.kind == "probe"}
    assert len(probes) == 2  # the pretrained encoder and the random one
    for stage in probes.values():
        told = json.loads((store.path(stage) / "sweep.json").read_text(encoding="utf-8"))
        record = store.record(stage)
        assert record is not None
        assert [one["settings"] for one in told["tried"]] == [{"lr": 1e-3}, {"lr": 1e-5}]
        assert told["held_out"] == record.metrics["held_out_n"] > 0
        assert record.metrics["chosen_lr"] == told["chosen"]["lr"]

    swept = probes["pretrained"]
    mine = store.record(swept)
    assert mine is not None
    other, _ = make_plan("baselines=[]", f"recipe.evaluate.clips.optim.lr={mine.metrics['chosen_lr']:f}")
    assert run(other, store, registry, Console(quiet=True)).complete
    (plain,) = [stage for stage in other.stages if stage.kind == "probe"]
    theirs = store.record(plain)
    assert theirs is not None
    assert {name: mine.metrics[name] for name in theirs.metrics} == theirs.metrics
    weights = [torch.load(store.path(one) / "probe.pt", weights_only=True) for one in (swept, plain)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])
