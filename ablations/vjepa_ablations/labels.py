"""How many labels a probe sees (paper section 5.3, Table 7)."""

from __future__ import annotations

from collections.abc import Iterator

from vjepa_ablations.ablation import Level, ablation, with_fields
from vjepa_exp.spec.evaluate import PROBES
from vjepa_exp.spec.experiment import Recipe


@ablation("evaluate.*.label_fraction")
def table7(base: Recipe) -> Iterator[Level]:
    """5, 10 and 50 % of the labels of every class, and all of them (the columns of Table 7 as rows)."""
    probes = [name for name, evaluation in base.evaluate.items() if evaluation.kind in PROBES]
    for percent in (5, 10, 50, 100):
        fields = {f"evaluate.{name}.label_fraction": percent / 100 for name in probes}
        yield f"labels{percent}", with_fields(base, {**fields})
