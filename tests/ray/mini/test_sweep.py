"""A sweep nested in a study, run for real: every encoder gets settings of its own, chosen on held-out videos."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from vjepa_exp.graph.plan import Plan
from vjepa_exp.graph.store import Store
from vjepa_exp.runtime.runner import run
from vjepa_exp.spec.datasets import Registry
from vjepa_exp.track.journal import JOURNAL, read_journal
from vjepa_exp.track.progress import Progress
from vjepa_exp.track.starts import read_starts

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


def in_round(folder: Path) -> bool:
    where = Progress.read(folder)
    return where is not None and where.phase == "sweep step" and where.done >= 10


def after_it(folder: Path) -> bool:
    return any(row["step"] >= 50 for row in read_journal(folder / JOURNAL))


@pytest.mark.slow
def test_a_sweep_that_is_lost_in_its_round_and_after_it_ends_with_the_same_bits(
    make_plan: Callable[..., tuple[Plan, Registry]], make_store: Callable[..., Store], losing: Callable[..., Any]
) -> None:
    longer = ("recipe.evaluate.clips.augment={kind: crop_flip}", "recipe.evaluate.clips.optim.epochs=60")
    keeping = ("execution.checkpoint_every=20", "execution.log_every=1", "execution.max_failures=1")
    stores = []
    for lost in (True, False):
        plan, registry = make_plan("baselines=[]", SWEEP, *longer, *keeping)
        store = make_store(f"lost-{lost}", "pretrain")
        (stage,) = [stage for stage in plan.stages if stage.kind == "probe"]
        losses = [(in_round, signal.SIGTERM), (after_it, signal.SIGKILL)] if lost else []
        with losing(store.path(stage), *losses):
            assert run(plan, store, registry, Console(quiet=True)).complete
        stores.append(store)
    lost_one, unbroken = stores
    first, on_notice, killed = read_starts(lost_one.path(stage))
    assert (first.step, on_notice.step) == (0, 0)  # of the last training nothing was done
    assert killed.step >= 40
    assert len(read_starts(unbroken.path(stage))) == 1
    assert not (lost_one.path(stage) / "checkpoint").exists()
    mine, theirs = (store.record(stage) for store in stores)
    assert mine is not None
    assert theirs is not None
    assert mine.metrics == theirs.metrics
    told, expected = (json.loads((store.path(stage) / "sweep.json").read_text()) for store in stores)
    assert told == expected
    weights = [torch.load(store.path(stage) / "probe.pt", weights_only=True) for store in stores]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])
