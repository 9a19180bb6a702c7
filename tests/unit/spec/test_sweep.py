"""Sweeps of a probe as they are written: what is refused, and that a probe without one is the same work as ever."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from vjepa_exp.spec.data import ClipSpec
from vjepa_exp.spec.evaluate import AttentiveProbe
from vjepa_exp.spec.sweep import ProbeSweep
from vjepa_exp.spec.vary import Choice, Grid, LogUniform

RATE = LogUniform(kind="loguniform", low=1e-4, high=1e-2)


def probe(sweep: ProbeSweep) -> AttentiveProbe:
    return AttentiveProbe(kind="attentive_probe", dataset="any", clip=ClipSpec(), sweep=sweep)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"lr": Choice(kind="choice", values=(1e-3, -1.0))}, r"sweep.space.lr may give -1.0: .*greater than 0"),
        ({"lr": Grid(kind="grid", values=("high",))}, r"sweep.space.lr may give high: .*valid number"),
        ({"warmup_epochs": RATE}, r"sweep.space.warmup_epochs may give 0.0001: .*valid integer"),
        (
            {"warmup_epochs": Grid(kind="grid", values=(5, 21))},
            r"sweep.space.warmup_epochs may give 21: warmup_epochs 21",
        ),
        ({"batch_size": Grid(kind="grid", values=(1,))}, "batch_size"),
    ],
)
def test_values_that_no_probe_may_have_are_refused(space: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        probe(ProbeSweep(space=space))


def test_halving_beyond_the_last_epoch_is_refused() -> None:
    space = {"lr": RATE}
    for every in (1, 20):
        probe(ProbeSweep(space=space, halve_every=every))
    with pytest.raises(ValidationError, match=r"sweep.halve_every 21 is more than optim.epochs 20"):
        probe(ProbeSweep(space=space, halve_every=21))


def test_optuna_has_no_grids() -> None:
    with pytest.raises(ValidationError, match="optuna draws from 'loguniform' and 'choice'"):
        ProbeSweep(space={"lr": Grid(kind="grid", values=(1e-3,))}, searcher="optuna")


def test_a_probe_without_a_sweep_keeps_its_identity() -> None:
    plain = AttentiveProbe(kind="attentive_probe", dataset="any", clip=ClipSpec())
    assert "sweep" not in plain.model_dump()
    swept = probe(ProbeSweep(space={"lr": RATE}))
    assert swept.model_dump()["sweep"]["space"]["lr"]["low"] == 1e-4
    assert AttentiveProbe.model_validate_json(swept.model_dump_json()) == swept
