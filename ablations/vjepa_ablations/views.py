"""How much of a video a probe sees (appendix E.1, Table 14; test views of Tables 5 and 6)."""

from __future__ import annotations

from collections.abc import Iterator

from vjepa_ablations.ablation import Level, ablation, with_fields
from vjepa_exp.spec.evaluate import PROBES
from vjepa_exp.spec.experiment import Recipe


@ablation("evaluate.*.clips")
def table14(base: Recipe) -> Iterator[Level]:
    """One, two and eight clips of every video, in training and in the test (the columns of Table 14 as rows)."""
    for clips in (1, 2, 8):
        yield f"clips{clips}", with_fields(base, {f"evaluate.{name}.clips": clips for name in _probes(base)})


@ablation("evaluate.*.views")
def crops(base: Recipe) -> Iterator[Level]:
    """One, two and three spatial views in the test."""
    for views in (1, 2, 3):
        yield f"views{views}", with_fields(base, {f"evaluate.{name}.views": views for name in _probes(base)})


def _probes(base: Recipe) -> list[str]:
    return [name for name, evaluation in base.evaluate.items() if evaluation.kind in PROBES]
