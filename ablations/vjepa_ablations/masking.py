"""Which region to predict (paper section 3.2 and Table 4)."""

from __future__ import annotations

from vjepa_ablations.ablation import Levels, ablation, with_field
from vjepa_exp.spec.experiment import Recipe
from vjepa_exp.spec.masks import MultiBlockMask, RandomTubeMask

PAPER_FRAMES = 16
"""Frames of the paper's clips, of which causal multi-block [p] shows the first p."""


@ablation("pretrain.masks")
def table4(base: Recipe) -> Levels:
    """Random tubes, blocks behind the first frames, blocks over the whole clip (Table 4).

    `causal6` and `causal12` keep the shares 6/16 and 12/16 of the clip as context, whatever its length; every later
    token is a target (method fact 4.3).
    """
    blocks = [mask for mask in base.pretrain.masks if isinstance(mask, MultiBlockMask) and mask.max_temporal_keep == 1]
    if len(blocks) < len(base.pretrain.masks):
        raise ValueError("the base recipe's masks must be multi_block over the whole clip")
    return {
        "tube": with_field(base, "pretrain.masks", (RandomTubeMask(kind="random_tube", ratio=0.9),)),
        "causal6": with_field(base, "pretrain.masks", _causal(blocks, 6)),
        "causal12": with_field(base, "pretrain.masks", _causal(blocks, 12)),
        "multiblock": base,
    }


def _causal(blocks: list[MultiBlockMask], num_frames: int) -> tuple[MultiBlockMask, ...]:
    return tuple(mask.model_copy(update={"max_temporal_keep": num_frames / PAPER_FRAMES}) for mask in blocks)
