"""How a probe is trained (appendix D.1, Table 9; the paper swept it for Table 1)."""

from __future__ import annotations

from collections.abc import Iterator

from vjepa_ablations.ablation import Level, ablation, with_fields
from vjepa_exp.spec.evaluate import AttentiveProbe, LinearProbe
from vjepa_exp.spec.experiment import Recipe

FACTORS = {"x0.1": 0.1, "x0.3": 0.3, "x1": 1.0, "x3": 3.0, "x10": 10.0}


@ablation("evaluate.*.optim.lr")
def learning_rate(base: Recipe) -> Iterator[Level]:
    """The learning rate of every probe, from a tenth to ten times the base's."""
    for name, factor in FACTORS.items():
        yield name, with_fields(base, {f"evaluate.{n}.optim.lr": p.optim.lr * factor for n, p in _probes(base).items()})


@ablation("evaluate.*.optim.weight_decay")
def weight_decay(base: Recipe) -> Iterator[Level]:
    """The weight decay of every probe, from a tenth to ten times the base's."""
    for name, factor in FACTORS.items():
        decays = {f"evaluate.{n}.optim.weight_decay": p.optim.weight_decay * factor for n, p in _probes(base).items()}
        yield name, with_fields(base, {**decays})


def _probes(base: Recipe) -> dict[str, AttentiveProbe | LinearProbe]:
    found = {n: e for n, e in base.evaluate.items() if isinstance(e, AttentiveProbe | LinearProbe)}
    if not found:
        raise ValueError("the base recipe has no probe")
    return found
