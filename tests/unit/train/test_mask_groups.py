from itertools import pairwise

import pytest
import torch

from vjepa_exp.spec.data import DataSpec, MixtureEntry
from vjepa_exp.spec.masks import PAPER_MASKS, RandomTubeMask
from vjepa_exp.spec.pretrain import OptimSpec, PretrainSpec
from vjepa_exp.train.mask_groups import MaskGroup, draw_masks, split_rows
from vjepa_models.masks import MultiBlock, sample_group

GRID = (4, 6, 6)
SPEC = PretrainSpec(
    data=DataSpec(mixture=(MixtureEntry(dataset="demo"),)),
    masks=(*PAPER_MASKS, RandomTubeMask(kind="random_tube", ratio=0.5)),
    mask_group_size=4,
    optim=OptimSpec(batch_size=12),
)


def per_row(groups: list[MaskGroup]) -> list[list[list[int]]]:
    """The lists of each row, whatever group they stand in."""
    return [
        [index[row].tolist() for pair in group for index in pair]
        for group in groups
        for row in range(len(group[0].context))
    ]


def test_a_step_draws_its_groups_from_the_sampler_under_running_numbers() -> None:
    groups = draw_masks(SPEC, GRID, seed=5, step=3, rows=range(12))
    assert len(groups) == 3
    sampler = MultiBlock(2, (0.7, 0.7))
    expected = sample_group(sampler, GRID, seed=5, mask_id=1, group=2 * 3 + 1, group_size=4)
    assert torch.equal(groups[1][1].context, torch.from_numpy(expected.context))
    assert torch.equal(groups[1][1].target, torch.from_numpy(expected.target))


@pytest.mark.parametrize("cuts", [[0, 12], [0, 4, 8, 12], [0, 6, 12], [0, 1, 2, 3, 7, 12]])
def test_the_split_over_workers_changes_no_mask(cuts: list[int]) -> None:
    whole = per_row(draw_masks(SPEC, GRID, seed=5, step=1, rows=range(12)))
    parts = [draw_masks(SPEC, GRID, seed=5, step=1, rows=range(a, b)) for a, b in pairwise(cuts)]
    assert [row for part in parts for row in per_row(part)] == whole


@pytest.mark.parametrize("micro_batch", [1, 3, 4, 5, 12, 100])
def test_micro_batches_cover_every_row_once_in_order(micro_batch: int) -> None:
    groups = draw_masks(SPEC, GRID, seed=5, step=1, rows=range(12))
    parts = list(split_rows(groups, 12, micro_batch))
    assert [row for rows, _ in parts for row in range(rows.start, rows.stop)] == list(range(12))
    assert [row for _, part in parts for row in per_row(part)] == per_row(groups)
    for rows, part in parts:
        assert sum(len(group[0].context) for group in part) == rows.stop - rows.start <= micro_batch
