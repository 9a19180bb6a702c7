"""Which region to predict (paper section 3.2, Table 4, Figure 8 and appendix E.4)."""

from __future__ import annotations

from collections.abc import Iterator

from vjepa_ablations.ablation import Level, ablation, with_field, with_fields
from vjepa_exp.spec.experiment import Recipe
from vjepa_exp.spec.masks import PAPER_MASKS, MaskSpec, MultiBlockMask, RandomTubeMask

PAPER_FRAMES = 16
"""Frames of the paper's clips, of which causal multi-block [p] shows the first p."""
FRAME_PX = 224
"""Side of the paper's clips, which the blocks of Figure 8 are given in pixels of."""
SHORT, LONG = PAPER_MASKS


@ablation("pretrain.masks")
def table4(base: Recipe) -> Iterator[Level]:
    """Random tubes, blocks behind the first frames, blocks over the whole clip (Table 4).

    `causal6` and `causal12` keep the shares 6/16 and 12/16 of the clip as context, whatever its length; every later
    token is a target (method fact 4.3).
    """
    blocks = [mask for mask in base.pretrain.masks if isinstance(mask, MultiBlockMask) and mask.max_temporal_keep == 1]
    if len(blocks) < len(base.pretrain.masks):
        raise ValueError("the base recipe's masks must be multi_block over the whole clip")
    yield "tube", with_field(base, "pretrain.masks", (RandomTubeMask(kind="random_tube", ratio=0.9),))
    yield "causal6", with_field(base, "pretrain.masks", _causal(blocks, 6))
    yield "causal12", with_field(base, "pretrain.masks", _causal(blocks, 12))
    yield "multiblock", base


@ablation("pretrain.masks", "seed")
def figure8(base: Recipe) -> Iterator[Level]:
    """The 26 masking settings of appendix E.4: coverage in space and time, number of blocks and of masks (Figure 8).

    Only M26, the default, is in the text of the final paper. M01-M15 and M21-M23 are the rows of the earlier version's
    tables; M16-M20, M24 and M25 are proposed (experiments/paper/figure8.yaml marks every one). M17 has the masks of
    M04: the earlier version lists repeated settings with other results, so it is the same point under another seed,
    far from those that a list of `seeds` would have.
    """
    for name, masks in FIGURE8.items():
        fields: dict[str, tuple[MaskSpec, ...] | int] = {
            "pretrain.masks": tuple(_fitting(m, base.grid[1]) for m in masks)
        }
        if name == "M17":
            fields["seed"] = base.seed + 1000
        yield name, with_fields(base, {**fields})


def _causal(blocks: list[MultiBlockMask], num_frames: int) -> tuple[MultiBlockMask, ...]:
    return tuple(mask.model_copy(update={"max_temporal_keep": num_frames / PAPER_FRAMES}) for mask in blocks)


def _squares(num_blocks: int, side_px: int, temporal: float = 1.0) -> MultiBlockMask:
    """Square blocks of so many pixels of a 224-pixel frame, over a share of the clip's length."""
    share = round((side_px / FRAME_PX) ** 2, 4)
    return MultiBlockMask(
        kind="multi_block",
        num_blocks=num_blocks,
        spatial_scale=(share, share),
        temporal_scale=(temporal, temporal),
        aspect_ratio=(1.0, 1.0),
    )


def _fitting(mask: MultiBlockMask, side: int) -> MultiBlockMask:
    """On grids coarser than the paper's a large square block is one cell smaller than the frame, not as large."""
    largest = int((side - 0.5) ** 2) / side**2
    share = min(mask.spatial_scale[1], largest)
    return mask if share == mask.spatial_scale[1] else mask.model_copy(update={"spatial_scale": (share, share)})


def _figure8() -> dict[str, tuple[MultiBlockMask, ...]]:
    by_coverage = [
        (_squares(blocks, side, temporal),)
        for temporal in (1.0, 0.75, 0.5)
        for blocks, side in ((1, 112), (1, 160), (1, 192), (2, 176), (2, 192))
    ]
    by_blocks = [(_squares(blocks, side),) for blocks, side in ((1, 208), (2, 176), (4, 144), (8, 112), (16, 80))]
    by_masks = [(_squares(2, 160),) * count for count in (1, 2, 3)]
    settings = [*by_coverage, *by_blocks, *by_masks, (SHORT,), (LONG,), (SHORT, LONG)]
    return {f"M{number:02}": masks for number, masks in enumerate(settings, start=1)}


FIGURE8 = _figure8()
