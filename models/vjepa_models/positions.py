"""Fixed sine-cosine position tables of a (t, y, x) token grid (method: encoder, position table)."""

from math import ceil

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

Grid = tuple[int, int, int]


def position_table(dim: int, grid: Grid, uniform_power: bool) -> Tensor:
    """Position table [1, N, dim], computed in float64 and rounded once to fp32; token n = (t*H + y)*W + x.

    `uniform_power` gives the three axes equal widths 2*ceil(dim/6) and drops what exceeds `dim` (all released models);
    otherwise time takes one half, y and x a quarter each.

    Raises:
        ValueError: a width that does not split into whole sine-cosine pairs.
    """
    if uniform_power:
        axis_dims = (2 * ceil(dim / 6),) * 3
    elif dim % 8 == 0:
        axis_dims = (dim // 2, dim // 4, dim // 4)
    else:
        raise ValueError(f"uniform_power=false needs a width divisible by 8, not {dim}")
    indices = np.meshgrid(*(np.arange(size, dtype=np.float64) for size in grid), indexing="ij")
    parts = [_sincos(index.ravel(), width) for index, width in zip(indices, axis_dims, strict=True)]
    table_ND = np.concatenate(parts, axis=1)[:, :dim]
    return torch.from_numpy(table_ND.astype(np.float32)).unsqueeze(0)


def interpolate_positions(table_1ND: Tensor, grid: Grid, new_grid: Grid) -> Tensor:
    """The table of `grid` stretched trilinearly to `new_grid`; the same tensor where the two agree."""
    if grid == new_grid:
        return table_1ND
    t, h, w = grid
    volume = rearrange(table_1ND, "1 (t h w) d -> 1 d t h w", t=t, h=h, w=w)
    stretched = F.interpolate(volume, size=new_grid, mode="trilinear", align_corners=False)
    return rearrange(stretched, "1 d t h w -> 1 (t h w) d")


def _sincos(index_N: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """[N, width]: all sines, then all cosines."""
    frequency = 10000.0 ** (-2.0 * np.arange(width // 2, dtype=np.float64) / width)
    angle = np.outer(index_N, frequency)
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)
