"""A sweep of probes on one pass of the encoder: the numbers of probes that each have their own."""

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
from vjepa_exp.track.journal import JOURNAL, read_journal

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(600)]

RATES = "vary={search: {space: {evaluate.clips.optim.lr: {kind: grid, values: [0.01, 0.001]}}}}"


def test_probes_on_one_pass_are_those_of_their_own_passes(
    make_plan: Callable[..., tuple[Plan, Registry]], make_store: Callable[..., Store]
) -> None:
    stores, beside = [], []
    # One of the two probes is that of the study, which had a pass of its own.
    for limit, kinds in (("null", ["pretrain"]), ("1", ["pretrain", "probe"])):
        plan, registry = make_plan("baselines=[]", RATES, f"execution.probes_per_pass={limit}")
        store = make_store(f"runs-{limit}", *kinds)
        assert run(plan, store, registry, Console(quiet=True)).complete
        stores.append(store)
        probes = [stage for stage in plan.stages if stage.kind == "probe"]
        beside.append(
            {json.loads((store.path(one) / "record.json").read_text())["execution"]["beside"] for one in probes}
        )
    assert beside == [{1}, {0}]
    together, alone = stores
    assert len(probes) == 2
    for stage in probes:
        records = [store.record(stage) for store in stores]
        assert records[0] is not None
        assert records[1] is not None
        assert records[0].metrics == records[1].metrics
        mine, theirs = (torch.load(store.path(stage) / "probe.pt", weights_only=True) for store in stores)
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
        losses = [[row["loss"] for row in read_journal(store.path(stage) / JOURNAL)] for store in (together, alone)]
        assert losses[0] == losses[1]
