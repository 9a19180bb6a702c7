"""Mask samplers on the token grid: which tokens the encoder sees (context) and which are predicted (target).

Pure functions of (seed, mask configuration, group, sample); numpy only. Masks are drawn for *groups* of samples: as
in the released sampler the samples of a group share the size of their blocks, and are cut to the shortest list of
the group. The group size is therefore part of the recipe (24 for ViT-L and ViT-H, 10 for ViT-H/384), never the batch
of a device.

Legend: G samples of the group, B blocks, T H W the token grid, N = T*H*W (x fastest, t slowest), K context, M target
tokens.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vjepa_models.keyed_rng import keyed_rng

Grid = tuple[int, int, int]
Truncate = Literal["first", "random"]
MAX_REDRAWS = 1000


@dataclass(frozen=True, slots=True)
class MultiBlock:
    """Union of spatio-temporal blocks is the target, its complement the context (paper section 3.2, Table 8).

    `max_temporal_keep` < 1 is causal multi-block: every token after that share of the clip is a target too (Table 4).
    Scales are shares of the grid, drawn uniformly between their two ends; `max_keep` bounds the context tokens.
    """

    num_blocks: int
    spatial_scale: tuple[float, float]
    temporal_scale: tuple[float, float] = (1.0, 1.0)
    aspect_ratio: tuple[float, float] = (0.75, 1.5)
    max_temporal_keep: float = 1.0
    max_keep: int | None = None


@dataclass(frozen=True, slots=True)
class RandomTube:
    """Random spatial cells, masked over the whole length of the clip (paper Table 4, `ratio` masked)."""

    ratio: float


Mask = MultiBlock | RandomTube


class MaskIndices(NamedTuple):
    """Ascending token indices of one group: context [G, K] and target [G, M], int64."""

    context: NDArray[np.int64]
    target: NDArray[np.int64]


class MaskStatistics(NamedTuple):
    """Mean shares of the N tokens: as drawn (`raw_*`) and after the cut to the group minimum."""

    raw_context: float
    raw_target: float
    context: float
    target: float


def sample_group(
    mask: Mask,
    grid: Grid,
    seed: int,
    mask_id: int,
    group: int,
    group_size: int,
    truncate: Truncate = "first",
) -> MaskIndices:
    """Masks of one group.

    Args:
        mask: the sampler.
        grid: tokens along (t, y, x).
        seed: seed of the run.
        mask_id: position of `mask` among the mask configurations of the recipe.
        group: running number of the group; configurations with the same `group` share the aspect ratio of their blocks.
        group_size: G.
        truncate: which tokens the cut to the group minimum keeps: the `first` in raster order (as released; it drops
            late time steps) or a uniformly `random` subset.

    Raises:
        ValueError: the mask leaves no context on this grid.
    """
    target_GN = sample_targets(mask, grid, seed, mask_id, group, group_size)
    context_GN = ~target_GN
    num_context = int(context_GN.sum(axis=1).min())
    if isinstance(mask, MultiBlock) and mask.max_keep is not None:
        num_context = min(num_context, mask.max_keep)
    num_target = int(target_GN.sum(axis=1).min())
    if truncate == "first":
        return MaskIndices(_first_indices(context_GN, num_context), _first_indices(target_GN, num_target))
    score_GN = keyed_rng(seed, "mask.cut", mask_id, group).random(target_GN.shape)
    return MaskIndices(
        _random_indices(context_GN, num_context, score_GN), _random_indices(target_GN, num_target, score_GN)
    )


def sample_targets(mask: Mask, grid: Grid, seed: int, mask_id: int, group: int, group_size: int) -> NDArray[np.bool_]:
    """Uncut masks of one group: [G, N], true where the token is a target. Row i does not depend on `group_size`."""
    if isinstance(mask, RandomTube):
        return _random_tubes(mask, grid, seed, mask_id, group, group_size)
    return _multi_blocks(mask, grid, seed, mask_id, group, group_size)


def mask_statistics(
    mask: Mask, grid: Grid, group_size: int, num_groups: int = 100, seed: int = 0, mask_id: int = 0
) -> MaskStatistics:
    """Mean context and target shares over `num_groups` groups, before and after the cut."""
    num_tokens = grid[0] * grid[1] * grid[2]
    shares = []
    for group in range(num_groups):
        raw = float(sample_targets(mask, grid, seed, mask_id, group, group_size).mean())
        cut = sample_group(mask, grid, seed, mask_id, group, group_size)
        shares.append((1 - raw, raw, cut.context.shape[1] / num_tokens, cut.target.shape[1] / num_tokens))
    return MaskStatistics(*np.mean(shares, axis=0).tolist())


def _multi_blocks(
    mask: MultiBlock, grid: Grid, seed: int, mask_id: int, group: int, group_size: int
) -> NDArray[np.bool_]:
    block = _block_size(mask, grid, seed, group)
    num_visible_steps = max(1, int(grid[0] * mask.max_temporal_keep))
    target_GN = np.ones((group_size, grid[0] * grid[1] * grid[2]), dtype=bool)
    for attempt in range(MAX_REDRAWS):
        empty_G = target_GN.all(axis=1)
        if not empty_G.any():
            return target_GN
        drawn_GB3 = keyed_rng(seed, "mask.blocks", mask_id, group, attempt).random((group_size, mask.num_blocks, 3))
        drawn_GTHW = _union_of_blocks(drawn_GB3[empty_G], grid, block)
        drawn_GTHW[:, num_visible_steps:] = True
        target_GN[empty_G] = drawn_GTHW.reshape(len(drawn_GTHW), -1)
    raise ValueError(
        f"mask {mask} leaves no context on a {grid[0]}x{grid[1]}x{grid[2]} token grid: "
        "use fewer or smaller blocks, or a larger clip"
    )


def _block_size(mask: MultiBlock, grid: Grid, seed: int, group: int) -> Grid:
    """Block size (t, h, w) of a group. The key leaves the mask id out: configurations share the aspect ratio."""
    num_steps, height, width = grid
    draws = keyed_rng(seed, "mask.block_size", group).random(3).tolist()
    bounds = (mask.temporal_scale, mask.spatial_scale, mask.aspect_ratio)
    time, space, aspect = (low + u * (high - low) for u, (low, high) in zip(draws, bounds, strict=True))
    area = int(height * width * space)
    return (
        max(1, int(num_steps * time)),
        min(height, max(1, round(sqrt(area * aspect)))),
        min(width, max(1, round(sqrt(area / aspect)))),
    )


def _union_of_blocks(drawn_GB3: NDArray[np.float64], grid: Grid, block: Grid) -> NDArray[np.bool_]:
    """Blocks at uniform positions (from uniforms in [0, 1)), united: [G, T, H, W]."""
    inside = []
    for axis in range(3):
        start_GB = (drawn_GB3[..., axis] * (grid[axis] - block[axis] + 1)).astype(np.int64)
        offset_GBA = np.arange(grid[axis]) - start_GB[..., None]
        inside.append((offset_GBA >= 0) & (offset_GBA < block[axis]))
    t_GBT, y_GBH, x_GBW = inside
    blocks_GBTHW = t_GBT[:, :, :, None, None] & (y_GBH[:, :, :, None] & x_GBW[:, :, None, :])[:, :, None]
    return np.logical_or.reduce(blocks_GBTHW, axis=1)


def _random_tubes(
    mask: RandomTube, grid: Grid, seed: int, mask_id: int, group: int, group_size: int
) -> NDArray[np.bool_]:
    num_steps, height, width = grid
    num_kept = int(height * width * (1 - mask.ratio))
    if num_kept == 0:
        raise ValueError(f"mask {mask} leaves no context on a {height}x{width} grid: lower the ratio")
    score_GS = keyed_rng(seed, "mask.tubes", mask_id, group).random((group_size, height * width))
    kept_GS = np.argsort(score_GS, axis=1)[:, :num_kept]
    target_GS = np.ones(score_GS.shape, dtype=bool)
    np.put_along_axis(target_GS, kept_GS, False, axis=1)
    return np.tile(target_GS, (1, num_steps))


def _first_indices(chosen_GN: NDArray[np.bool_], count: int) -> NDArray[np.int64]:
    return np.stack([np.flatnonzero(row)[:count] for row in chosen_GN])


def _random_indices(chosen_GN: NDArray[np.bool_], count: int, score_GN: NDArray[np.float64]) -> NDArray[np.int64]:
    order_GN = np.argsort(np.where(chosen_GN, score_GN, 2.0), axis=1)
    return np.sort(order_GN[:, :count], axis=1)
