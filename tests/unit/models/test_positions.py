from itertools import product
from math import ceil, cos, sin

import numpy as np
import pytest
import torch

from vjepa_models.positions import Grid, interpolate_positions, position_table


def reference_row(dim: int, position: tuple[int, int, int], uniform_power: bool) -> list[float]:
    """One row of the table, written out value by value from the formula."""
    widths = [2 * ceil(dim / 6)] * 3 if uniform_power else [dim // 2, dim // 4, dim // 4]
    row = []
    for index, width in zip(position, widths, strict=True):
        angles = [index / 10000 ** (2 * k / width) for k in range(width // 2)]
        row += [sin(a) for a in angles] + [cos(a) for a in angles]
    return row[:dim]


@pytest.mark.parametrize("uniform_power", [True, False])
@pytest.mark.parametrize("dim", [96, 384, 1024, 1280, 1408])
def test_table_follows_the_formula_in_raster_order(dim: int, uniform_power: bool) -> None:
    grid = (2, 3, 4)
    rows = [reference_row(dim, position, uniform_power) for position in product(*map(range, grid))]
    table = position_table(dim, grid, uniform_power)
    assert table.dtype == torch.float32
    assert table.shape == (1, 24, dim)
    torch.testing.assert_close(table[0], torch.tensor(rows), atol=1e-6, rtol=0)


def test_a_width_that_does_not_split_is_refused() -> None:
    with pytest.raises(ValueError, match="divisible by 8, not 108"):
        position_table(108, (1, 2, 2), uniform_power=False)


def linear_weights(size: int, new_size: int) -> np.ndarray:
    """Matrix [new_size, size] of linear interpolation between the centres of equal cells, clamped at the border."""
    weights = np.zeros((new_size, size))
    for i in range(new_size):
        source = min(max((i + 0.5) * size / new_size - 0.5, 0), size - 1)
        low = int(source)
        weights[i, low] += 1 - (source - low)
        weights[i, min(low + 1, size - 1)] += source - low
    return weights


@pytest.mark.parametrize("new_grid", [(2, 3, 3), (8, 5, 5), (3, 2, 7), (4, 61, 2)])
def test_interpolation_is_linear_along_each_axis(new_grid: Grid) -> None:
    grid = (4, 14, 3)
    table = position_table(24, grid, uniform_power=True)
    volume = table.double().numpy().reshape(*grid, 24)
    matrices = [linear_weights(a, b) for a, b in zip(grid, new_grid, strict=True)]
    expected = np.einsum("thwd,at,bh,cw->abcd", volume, *matrices).reshape(1, -1, 24)
    ours = interpolate_positions(table, grid, new_grid)
    torch.testing.assert_close(ours, torch.from_numpy(expected).float(), atol=1e-5, rtol=0)


def test_the_same_grid_keeps_the_stored_table() -> None:
    table = torch.randn(1, 12, 6)
    assert interpolate_positions(table, (3, 2, 2), (3, 2, 2)) is table
