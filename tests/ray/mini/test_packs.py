"""A sweep of probes on one pass of the encoder: the numbers of probes that each have their own, whatever happens."""

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
from vjepa_exp.graph.stage import Stage
from vjepa_exp.graph.store import Store
from vjepa_exp.runtime.hold import LOCK
from vjepa_exp.runtime.runner import run
from vjepa_exp.spec.datasets import Registry
from vjepa_exp.track.journal import JOURNAL, read_journal
from vjepa_exp.track.starts import read_starts

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(600)]

RATES = "vary={search: {space: {evaluate.clips.optim.lr: {kind: grid, values: [0.01, 0.001]}}}}"
LONG = ("recipe.evaluate.clips.augment={kind: crop_flip}", "recipe.evaluate.clips.optim.epochs=60")
"""120 steps on clips that the encoder sees anew in every epoch."""
KEEPING = ("execution.checkpoint_every=20", "execution.log_every=1", "execution.max_failures=1")


def probes_of(plan: Plan) -> list[Stage]:
    return [stage for stage in plan.stages if stage.kind == "probe"]


def logged(step: int) -> Callable[[Path], bool]:
    return lambda folder: any(row["step"] >= step for row in read_journal(folder / JOURNAL))


def test_probes_on_one_pass_that_is_lost_twice_are_those_of_their_own_passes(
    make_plan: Callable[..., tuple[Plan, Registry]], make_store: Callable[..., Store], losing: Callable[..., Any]
) -> None:
    stores, beside = [], []
    for limit in ("null", "1"):
        plan, registry = make_plan("baselines=[]", RATES, *LONG, *KEEPING, f"execution.probes_per_pass={limit}")
        store, probes = make_store(f"runs-{limit}", "pretrain"), probes_of(plan)
        losses = [(logged(30), signal.SIGTERM), (logged(90), signal.SIGKILL)] if limit == "null" else []
        with losing(store.path(probes[0]), *losses):
            assert run(plan, store, registry, Console(quiet=True)).complete
        stores.append(store)
        beside.append(
            {json.loads((store.path(one) / "record.json").read_text())["execution"]["beside"] for one in probes}
        )
    assert beside == [{1}, {0}]
    together, alone = stores
    assert len(probes) == 2
    workers = {json.loads((alone.path(stage) / LOCK).read_text())["pid"] for stage in probes}
    assert len(workers) == 1  # it stayed for the second probe
    for stage in probes:
        first, on_notice, killed = read_starts(together.path(stage))
        assert (first.step, len(read_starts(alone.path(stage)))) == (0, 1)
        assert on_notice.step >= 30  # a checkpoint of that very step
        assert on_notice.repeated <= 1
        assert killed.step >= 80
        assert not (together.path(stage) / "checkpoint").exists()
        records = [store.record(stage) for store in stores]
        assert records[0] is not None
        assert records[1] is not None
        assert records[0].metrics == records[1].metrics
        mine, theirs = (torch.load(store.path(stage) / "probe.pt", weights_only=True) for store in stores)
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
        told = [[(row["step"], row["loss"]) for row in read_journal(s.path(stage) / JOURNAL)] for s in stores]
        assert told[0] == told[1]
