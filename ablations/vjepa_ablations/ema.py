"""How slowly the target encoder follows (paper section 3.1, Table 8)."""

from __future__ import annotations

from collections.abc import Iterator

from vjepa_ablations.ablation import Level, ablation, with_fields
from vjepa_exp.spec.experiment import Recipe


@ablation("pretrain.optim.ema", "pretrain.optim.final_ema")
def momentum(base: Recipe) -> Iterator[Level]:
    """No average at all (the target is the encoder itself), a fast one, the base's, and one that stays constant."""
    ema = base.pretrain.optim.ema
    yield "none", with_fields(base, {"pretrain.optim.ema": 0.0, "pretrain.optim.final_ema": 0.0})
    yield "fast", with_fields(base, {"pretrain.optim.ema": round(1 - 10 * (1 - ema), 6)})
    yield "base", base
    yield "constant", with_fields(base, {"pretrain.optim.final_ema": ema})
