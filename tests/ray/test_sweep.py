"""A sweep nested in a study, run for real: every encoder gets settings of its own, chosen on held-out videos."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from rich.console import Console

from vjepa_exp.graph.plan import build_plan
from vjepa_exp.graph.store import Store
from vjepa_exp.runtime.runner import run
from vjepa_exp.spec.datasets import Registry
from vjepa_exp.spec.load import PAPER, read_experiment, resolve

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(600)]


def test_the_chosen_settings_give_the_number_of_the_plain_probe(
    experiment_file: Path, datasets_file: Path, tmp_path: Path
) -> None:
    content = yaml.safe_load(experiment_file.read_text(encoding="utf-8"))
    content["recipe"]["pretrain"]["optim"] |= {"iterations": 4, "warmup": 1, "clip_grad_after": 0}
    rates = {"kind": "grid", "values": [1e-2, 1e-5]}
    plain = dict(content["recipe"]["evaluate"]["clips"])
    content["recipe"]["evaluate"]["clips"]["sweep"] = {"space": {"lr": rates}, "holdout": 0.3}
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(yaml.safe_dump(content), encoding="utf-8")
    registry, store = Registry(datasets_file), Store(tmp_path / "runs")
    plan = build_plan(resolve(read_experiment(sweep), PAPER, []), registry)
    result = run(plan, store, registry, Console(quiet=True))
    assert result.complete, result.failed
    probes = [stage for stage in plan.stages if stage.kind == "probe"]
    assert len(probes) == 2  # the pretrained encoder and the random one
    for stage in probes:
        told = json.loads((store.path(stage) / "sweep.json").read_text(encoding="utf-8"))
        record = store.record(stage)
        assert record is not None
        assert [one["settings"] for one in told["tried"]] == [{"lr": 1e-2}, {"lr": 1e-5}]
        assert told["held_out"] == record.metrics["held_out_n"] > 0
        assert record.metrics["chosen_lr"] == told["chosen"]["lr"]

    chosen = {store.record(stage).metrics["chosen_lr"] for stage in probes}  # type: ignore[union-attr]
    content["recipe"]["evaluate"]["clips"] = plain | {"optim": plain["optim"] | {"lr": chosen.pop()}}
    again = tmp_path / "plain.yaml"
    again.write_text(yaml.safe_dump(content), encoding="utf-8")
    other = build_plan(resolve(read_experiment(again), PAPER, []), registry)
    assert run(other, store, registry, Console(quiet=True)).complete
    stage = next(one for one in probes if store.record(one).metrics["chosen_lr"] not in chosen)  # type: ignore[union-attr]
    same = next(one for one in other.stages if one.kind == "probe" and one.name == stage.name)
    mine, theirs = store.record(stage), store.record(same)
    assert mine is not None
    assert theirs is not None
    assert {name: mine.metrics[name] for name in theirs.metrics} == theirs.metrics
    weights = [torch.load(store.path(one) / "probe.pt", weights_only=True) for one in (stage, same)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])
