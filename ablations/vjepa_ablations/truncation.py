"""How the masks of a group are cut to one length (no ablation of the paper, but a choice of the released code)."""

from __future__ import annotations

from collections.abc import Iterator

from vjepa_ablations.ablation import Level, ablation, with_field
from vjepa_exp.spec.experiment import Recipe


@ablation("pretrain.mask_truncate")
def which(base: Recipe) -> Iterator[Level]:
    """Keep the first tokens of each list, as released (late frames lose more), or a uniform subset."""
    yield "first", with_field(base, "pretrain.mask_truncate", "first")
    yield "random", with_field(base, "pretrain.mask_truncate", "random")


@ablation("pretrain.mask_group_size")
def group_size(base: Recipe) -> Iterator[Level]:
    """Masks cut per clip, per quarter of the base's group, per its group: larger groups lose more tokens."""
    size = base.pretrain.mask_group_size
    for group in dict.fromkeys((1, max(1, size // 4), size)):
        yield f"group{group}", with_field(base, "pretrain.mask_group_size", group)
