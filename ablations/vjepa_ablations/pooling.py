"""How a probe pools the tokens of a video (paper section 4.3, Table 3)."""

from __future__ import annotations

from collections.abc import Iterator

from vjepa_ablations.ablation import Level, ablation, with_fields
from vjepa_exp.spec.evaluate import AttentiveProbe, LinearProbe
from vjepa_exp.spec.experiment import Recipe


@ablation("evaluate.*")
def table3(base: Recipe) -> Iterator[Level]:
    """Every probe with the average of the tokens, or with a learnt query (the columns of Table 3 as rows)."""
    yield "average", _with_probes(base, average=True)
    yield "attentive", _with_probes(base, average=False)


@ablation("evaluate.*.depth")
def depth(base: Recipe) -> Iterator[Level]:
    """Attentive probes of one block and of two (the 77.9 % on ImageNet in section 5.2)."""
    for layers in (1, 2):
        names = [name for name, probe in base.evaluate.items() if isinstance(probe, AttentiveProbe)]
        yield f"depth{layers}", with_fields(base, {f"evaluate.{name}.depth": layers for name in names})


def _with_probes(base: Recipe, *, average: bool) -> Recipe:
    probes: dict[str, AttentiveProbe | LinearProbe] = {}
    for name, probe in base.evaluate.items():
        if isinstance(probe, AttentiveProbe | LinearProbe):
            shared = {field: getattr(probe, field) for field in LinearProbe.model_fields if field != "kind"}
            other: AttentiveProbe | LinearProbe = (
                LinearProbe(kind="linear_probe", **shared)
                if average
                else AttentiveProbe(kind="attentive_probe", **shared)
            )
            probes[name] = probe if probe.kind == other.kind else other
    return with_fields(base, {f"evaluate.{name}": probe for name, probe in probes.items()})
