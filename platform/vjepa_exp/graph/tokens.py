"""How many tokens a mask leaves as context and asks for as targets, estimated without numpy.

The samplers are in vjepa_models.masks; here only the lengths count, so that a plan is laid out in milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import sqrt
from random import Random
from typing import NamedTuple

from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.masks import MaskSpec, MultiBlockMask, RandomTubeMask

Grid = tuple[int, int, int]
NUM_SAMPLES = 960
"""Drawn per mask; the mean is within about a point of the true share."""
MIN_GROUPS = 40
EVEN_STEPS = (0.8191725134, 0.6710436067, 0.5497004779)
"""Steps of an even (R3) sequence in the unit cube: block sizes vary more between groups than anything else does."""
MAX_REDRAWS = 1000
"""As in vjepa_models.masks: a mask that leaves no context in so many draws is refused before training meets it."""


class MaskTokens(NamedTuple):
    """Tokens of one mask configuration after the cut to the group minimum, of a group or a mean over groups."""

    context: float
    target: float

    @classmethod
    def mean(cls, draws: Sequence[MaskTokens]) -> MaskTokens:
        """The mean of some draws."""
        context, target = (sum(column) / len(draws) for column in zip(*draws, strict=True))
        return cls(context, target)


@lru_cache(maxsize=512)
def mask_draws(mask: MaskSpec, grid: Grid, group_size: int) -> tuple[MaskTokens, ...]:
    """Lengths of the context and target lists of some groups on a token grid (T', H', W').

    The masks of a recipe give the same number of draws, and those of one number belong together: the configurations of
    a group share the shape of their blocks.

    Raises:
        UserError: the blocks cover the whole clip in (almost) every draw.
    """
    num_steps, height, width = grid
    num_groups = max(MIN_GROUPS, NUM_SAMPLES // group_size)
    if isinstance(mask, RandomTubeMask):
        kept = int(height * width * (1 - mask.ratio)) * num_steps
        return (MaskTokens(kept, num_steps * height * width - kept),) * num_groups
    random = Random(0)
    sizes = _even(num_groups)
    random.shuffle(sizes)  # neighbours are a micro-batch, and no more even than any groups
    return tuple(_group_lengths(mask, grid, group_size, _block_size(mask, grid, *size), random) for size in sizes)


def mask_shape(mask: MaskSpec, grid: Grid) -> tuple[object, ...]:
    """What a mask is on a token grid: two with equal shapes draw the same tokens from the same random numbers."""
    if isinstance(mask, RandomTubeMask):
        return mask.kind, int(grid[1] * grid[2] * (1 - mask.ratio))
    blocks = tuple(_block_size(mask, grid, *size) for size in _even(NUM_SAMPLES))
    return mask.kind, mask.num_blocks, max(1, int(grid[0] * mask.max_temporal_keep)), mask.max_keep, blocks


def _even(count: int) -> list[tuple[float, ...]]:
    return [tuple((i + 0.5) * step % 1 for step in EVEN_STEPS) for i in range(count)]


def _group_lengths(mask: MultiBlockMask, grid: Grid, group_size: int, block: Grid, random: Random) -> MaskTokens:
    """Lengths of the lists of one group; a set of tokens is an integer with a bit per token."""
    num_steps, height, width = grid
    num_tokens = num_steps * height * width
    frame = _repeated((1 << block[2]) - 1, block[1], width)
    cuboid = _repeated(frame, block[0], height * width)
    visible_steps = max(1, int(num_steps * mask.max_temporal_keep))
    hidden = ((1 << num_tokens) - 1) >> (visible_steps * height * width) << (visible_steps * height * width)
    targets = []
    for _ in range(group_size):
        for _ in range(MAX_REDRAWS):
            union = hidden
            for _ in range(mask.num_blocks):
                t, y, x = (int(random.random() * (size - side + 1)) for size, side in zip(grid, block, strict=True))
                union |= cuboid << ((t * height + y) * width + x)
            if union.bit_count() < num_tokens:  # a draw without context is drawn again
                break
        else:
            raise UserError(_no_context(mask, grid))
        targets.append(union.bit_count())
    context = num_tokens - max(targets)
    return MaskTokens(min(context, mask.max_keep or context), min(targets))


def _no_context(mask: MultiBlockMask, grid: Grid) -> str:
    blocks = f"{mask.num_blocks} blocks of up to {mask.spatial_scale[1]:g} of a frame"
    size = "x".join(map(str, grid))
    return f"recipe.pretrain.masks: {blocks} cover the whole clip of {size} tokens: use fewer or smaller blocks"


def _block_size(mask: MultiBlockMask, grid: Grid, *uniforms: float) -> Grid:
    num_steps, height, width = grid
    bounds = (mask.temporal_scale, mask.spatial_scale, mask.aspect_ratio)
    time, space, aspect = (low + u * (high - low) for u, (low, high) in zip(uniforms, bounds, strict=True))
    area = int(height * width * space)
    return (
        max(1, int(num_steps * time)),
        min(height, max(1, round(sqrt(area * aspect)))),
        min(width, max(1, round(sqrt(area / aspect)))),
    )


def _repeated(bits: int, count: int, stride: int) -> int:
    return sum(bits << (i * stride) for i in range(count))
