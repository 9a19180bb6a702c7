"""What is predicted (paper section 4.1, Table 1)."""

from __future__ import annotations

from collections.abc import Iterator

from vjepa_ablations.ablation import Level, ablation, with_field
from vjepa_exp.spec.experiment import Recipe
from vjepa_exp.spec.pretrain import FeaturesObjective, PixelsObjective


@ablation("pretrain.objective")
def table1(base: Recipe) -> Iterator[Level]:
    """Normalised pixels of the targets, or features of the target encoder (Table 1)."""
    yield "pixels", with_field(base, "pretrain.objective", PixelsObjective(kind="pixels"))
    yield "features", with_field(base, "pretrain.objective", FeaturesObjective())


@ablation("pretrain.objective")
def exponent(base: Recipe) -> Iterator[Level]:
    """The norm of the feature loss: L1 as in the paper, L2, and between them."""
    for name, power in (("l1", 1.0), ("l1.5", 1.5), ("l2", 2.0)):
        yield name, with_field(base, "pretrain.objective", FeaturesObjective(exponent=power))
