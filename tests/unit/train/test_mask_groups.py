from itertools import pairwise

import pytest
import torch

from vjepa_exp.spec.data import DataSpec, MixtureEntry
from vjepa_exp.spec.masks import PAPER_MASKS, RandomTubeMask
from vjepa_exp.spec.pretrain import OptimSpec, PretrainSpec
from vjepa_exp.train.mask_groups import MaskGroup, cut_rows, draw_masks, split_rows
from vjepa_exp.train.world import World
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
@pytest.mark.parametrize("workers", range(1, 13))
def test_micro_batches_cover_every_row_once_in_order(workers: int, micro_batch: int) -> None:
    shares = World(0, workers).shares(12)
    rows_seen, masks_seen = [], []
    for share, cut in zip(shares, cut_rows(shares, SPEC.mask_group_size, micro_batch), strict=True):
        groups = draw_masks(SPEC, GRID, seed=5, step=1, rows=share)
        for rows, part in split_rows(groups, cut):
            assert sum(len(group[0].context) for group in part) == rows.stop - rows.start <= micro_batch + 1
            rows_seen += [share[row] for row in range(rows.start, rows.stop)]
            masks_seen += per_row(part)
    assert rows_seen == list(range(12))
    assert masks_seen == per_row(draw_masks(SPEC, GRID, seed=5, step=1, rows=range(12)))


@pytest.mark.parametrize("group_size", [2, 4, 24])
@pytest.mark.parametrize("micro_batch", [2, 6, 24])
def test_workers_make_the_same_passes_however_their_rows_lie_in_the_groups(micro_batch: int, group_size: int) -> None:
    for workers in range(1, 41):
        cuts = cut_rows(World(0, workers).shares(120), group_size, micro_batch)
        assert len({tuple(map(len, cut)) for cut in cuts}) == 1, workers
        assert {sum(map(sum, cut)) for cut in cuts} <= {120 // workers, 120 // workers + 1}


def test_groups_are_cut_only_where_another_worker_has_a_border() -> None:
    assert cut_rows(World(0, 1).shares(12), 4, 8) == [((4, 4), (4,))]
    assert cut_rows(World(0, 3).shares(12), 4, 4) == [((4,),)] * 3
    assert cut_rows(World(0, 2).shares(12), 4, 4) == [((2, 2), (2,)), ((2, 2), (2,))]
    assert cut_rows([range(6)], 4, 4) == [((4,), (2,))]


def test_passes_that_cannot_be_the_same_show_in_the_cut() -> None:
    assert cut_rows(World(0, 2).shares(3), 1, 4) == [((1, 1),), ((1,),)]
