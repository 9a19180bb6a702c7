"""Masks of a batch as tensors: groups of rows that share the lengths of their context and target lists.

Legend: B rows, K context tokens, M target tokens.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
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
Cut = Sequence[Sequence[int]]
"""Micro-batches of consecutive rows, each as the lengths of its parts; a part lies in one mask group."""


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


def split_rows(groups: Sequence[MaskGroup], cut: Cut) -> Iterator[tuple[slice, list[MaskGroup]]]:
    """A batch as micro-batches of consecutive rows, each with the parts of the groups it covers."""
    rest = list(groups)
    begin = 0
    for lengths in cut:
        parts = []
        for length in lengths:
            first, *later = rest
            parts.append(tuple(MaskPair(*(index[:length] for index in pair)) for pair in first))
            left = tuple(MaskPair(*(index[length:] for index in pair)) for pair in first)
            rest = [left, *later] if len(left[0].context) else later
        end = begin + sum(lengths)
        yield slice(begin, end), parts
        begin = end


def cut_rows(shares: Sequence[range], group_size: int, micro_batch: int) -> list[Cut]:
    """How every worker passes its rows of a batch: as many micro-batches on each, and as many parts in each of these.

    Where that matters (with FSDP the workers wait for each other in every pass of a block) all shares are given; one
    alone is cut as it comes. Where rows do not divide evenly some workers have one more in the last micro-batch; where
    the borders of mask groups lie elsewhere on another worker, a part is halved. Neither changes a number.

    Args:
        shares: rows of the global batch of every worker; their lengths differ by at most one.
        group_size: rows of a mask group; groups begin at multiples of it.
        micro_batch: rows of a micro-batch.
    """
    starts = range(0, min(map(len, shares)), micro_batch)
    cuts: list[list[list[int]]] = [[] for _ in shares]
    for start in starts:
        stop = None if start == starts[-1] else start + micro_batch
        parts = [_parts(share[start:stop], group_size) for share in shares]
        for cut, lengths in zip(cuts, parts, strict=True):
            cut.append(_halved(lengths, max(map(len, parts))))
    return [tuple(map(tuple, cut)) for cut in cuts]


def _parts(rows: range, group_size: int) -> list[int]:
    """Lengths of consecutive rows that lie in one mask group."""
    borders = range(rows.start - rows.start % group_size + group_size, rows.stop, group_size)
    return [end - begin for begin, end in pairwise([rows.start, *borders, rows.stop])]


def _halved(lengths: list[int], count: int) -> list[int]:
    """As many lengths as asked for, by halving the largest, as far as they can be halved."""
    while len(lengths) < count and max(lengths) > 1:
        i = lengths.index(max(lengths))
        half = lengths[i] // 2
        lengths = [*lengths[:i], lengths[i] - half, half, *lengths[i + 1 :]]
    return lengths
