"""Masks of a batch as tensors: groups of rows that share the lengths of their context and target lists.

Legend: B rows, K context tokens, M target tokens.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vjepa_exp.spec.pretrain import PretrainSpec
from vjepa_exp.train.networks import mask_sampler
from vjepa_exp.train.transfer import to_device
from vjepa_models.masks import sample_group
from vjepa_models.positions import Grid


class MaskPair(NamedTuple):
    """Token indices of some rows under one mask configuration: context [B, K] and target [B, M]."""

    context: Tensor
    target: Tensor


MaskGroup = tuple[MaskPair, ...]
"""The rows of one mask group under every mask configuration."""


def draw_masks(
    spec: PretrainSpec, grid: Grid, seed: int, step: int, rows: range, device: torch.device | str = "cpu"
) -> list[MaskGroup]:
    """Masks of some rows of the global batch of a step (counted from 1), as groups in their order.

    The global batch is cut into groups of `mask_group_size` rows; a group that lies only partly in `rows` is drawn
    and cut whole, so that the split over workers changes nothing.
    """
    size = spec.mask_group_size
    per_step = spec.optim.batch_size // size
    groups = []
    for group in range(rows.start // size, -(-rows.stop // size)):
        inside = slice(max(0, rows.start - group * size), min(size, rows.stop - group * size))
        number = (step - 1) * per_step + group
        pairs = []
        for mask_id, mask in enumerate(spec.masks):
            drawn = sample_group(mask_sampler(mask), grid, seed, mask_id, number, size, spec.mask_truncate)
            pairs.append(MaskPair(*(to_device(index[inside], device) for index in drawn)))
        groups.append(tuple(pairs))
    return groups


def split_rows(groups: Sequence[MaskGroup], num_rows: int, micro_batch: int) -> Iterator[tuple[slice, list[MaskGroup]]]:
    """Cut a batch into micro-batches of consecutive rows, each with the parts of the groups it covers."""
    for begin in range(0, num_rows, micro_batch):
        end = min(begin + micro_batch, num_rows)
        parts = []
        start = 0
        for group in groups:
            stop = start + len(group[0].context)
            inside = slice(max(begin, start) - start, min(end, stop) - start)
            if inside.start < inside.stop:
                parts.append(tuple(MaskPair(*(index[inside] for index in pair)) for pair in group))
            start = stop
        yield slice(begin, end), parts
