import numpy as np
import pytest

from vjepa_models.masks import Grid, Mask, MultiBlock, RandomTube, mask_statistics, sample_group, sample_targets

SHORT = MultiBlock(num_blocks=8, spatial_scale=(0.15, 0.15))
LONG = MultiBlock(num_blocks=2, spatial_scale=(0.7, 0.7))
SMALL_GRID = (4, 6, 6)
POINT = 0.01


def causal(mask: MultiBlock, keep: float) -> MultiBlock:
    return MultiBlock(mask.num_blocks, mask.spatial_scale, max_temporal_keep=keep)


@pytest.mark.parametrize(
    ("mask", "side", "group_size", "raw_context", "context", "target"),
    [
        (SHORT, 14, 24, 0.373, 0.231, 0.480),
        (LONG, 14, 24, 0.188, 0.065, 0.700),
        (SHORT, 14, 8, 0.373, 0.271, 0.519),
        (LONG, 14, 8, 0.188, 0.087, 0.723),
        (SHORT, 14, 1, 0.373, 0.373, 0.627),
        (LONG, 14, 1, 0.188, 0.188, 0.813),
        (SHORT, 24, 10, 0.389, 0.282, 0.500),
        (LONG, 24, 10, 0.192, 0.089, 0.721),
        (SHORT, 16, 24, 0.379, 0.239, 0.476),
        (LONG, 16, 24, 0.189, 0.066, 0.701),
    ],
)
def test_statistics_of_the_released_sampler(
    mask: MultiBlock, side: int, group_size: int, raw_context: float, context: float, target: float
) -> None:
    # A group of one is noisy: its mean needs more groups for the same precision.
    ours = mask_statistics(mask, (8, side, side), group_size, num_groups=1500 if group_size == 1 else 200)
    assert ours.raw_context == pytest.approx(raw_context, abs=POINT)
    assert ours.raw_target == pytest.approx(1 - raw_context, abs=POINT)
    assert ours.context == pytest.approx(context, abs=POINT)
    assert ours.target == pytest.approx(target, abs=POINT)


@pytest.mark.parametrize(
    ("mask", "context", "target"),
    [
        (causal(SHORT, 0.375), 0.087, 0.805),
        (causal(LONG, 0.375), 0.024, 0.888),
        (causal(SHORT, 0.75), 0.173, 0.610),
        (causal(LONG, 0.75), 0.048, 0.776),
    ],
)
def test_statistics_of_causal_multi_block(mask: MultiBlock, context: float, target: float) -> None:
    ours = mask_statistics(mask, (8, 14, 14), 24, num_groups=200)
    assert ours.context == pytest.approx(context, abs=POINT)
    assert ours.target == pytest.approx(target, abs=POINT)


@pytest.mark.parametrize(("keep", "steps"), [(0.375, 3), (0.75, 6)])
def test_causal_context_stays_within_the_first_steps(keep: float, steps: int) -> None:
    targets = sample_targets(causal(SHORT, keep), (8, 14, 14), seed=0, mask_id=0, group=0, group_size=24)
    by_step = targets.reshape(24, 8, 196)
    assert by_step[:, steps:].all()
    assert not by_step[:, :steps].all(axis=(1, 2)).any()


def test_tube_keeps_the_same_cells_at_every_step() -> None:
    context, target = sample_group(RandomTube(0.9), (8, 14, 14), seed=0, mask_id=0, group=0, group_size=4)
    assert context.shape == (4, 152)
    assert target.shape == (4, 1416)
    cells = context.reshape(4, 8, 19) - 196 * np.arange(8)[:, None]
    assert (cells == cells[:, :1]).all()
    assert len({tuple(row) for row in cells[:, 0]}) == 4


@pytest.mark.parametrize("truncate", ["first", "random"])
@pytest.mark.parametrize("mask", [SHORT, causal(LONG, 0.5), RandomTube(0.8)])
def test_lists_are_ascending_disjoint_and_within_the_uncut_mask(mask: Mask, truncate: str) -> None:
    uncut = sample_targets(mask, SMALL_GRID, seed=1, mask_id=0, group=5, group_size=6)
    context, target = sample_group(mask, SMALL_GRID, 1, 0, 5, 6, truncate)  # type: ignore[arg-type]
    assert context.dtype == target.dtype == np.int64
    for row in range(6):
        assert (np.diff(context[row]) > 0).all()
        assert (np.diff(target[row]) > 0).all()
        assert uncut[row, target[row]].all()
        assert not uncut[row, context[row]].any()
    assert context.shape[1] == (~uncut).sum(axis=1).min()
    assert target.shape[1] == uncut.sum(axis=1).min()


def test_the_cut_drops_late_tokens_or_random_ones() -> None:
    def late_share(truncate: str) -> float:
        drawn = [sample_group(LONG, (8, 14, 14), 0, 0, g, 24, truncate) for g in range(20)]  # type: ignore[arg-type]
        return float(np.mean([(group.context >= 4 * 196).mean() for group in drawn]))

    assert late_share("first") < 0.15
    assert late_share("random") == pytest.approx(0.5, abs=0.02)


def test_a_mask_is_a_function_of_seed_configuration_group_and_row() -> None:
    def draw(seed: int = 0, mask_id: int = 0, group: int = 0, size: int = 8) -> np.ndarray:
        return sample_targets(SHORT, (8, 14, 14), seed, mask_id, group, size)

    assert np.array_equal(draw(), draw())
    assert np.array_equal(draw(size=3), draw()[:3])
    for other in (draw(seed=1), draw(mask_id=1), draw(group=1)):
        assert not np.array_equal(draw(), other)
    assert len(np.unique(draw(), axis=0)) == 8


def block_shape(mask: MultiBlock, group: int, row: int) -> tuple[int, int, int]:
    """Extent of the only block of a sample."""
    grid = (8, 14, 14)
    target = sample_targets(mask, grid, 0, 0, group, 5)[row].reshape(grid)
    t, h, w = (np.flatnonzero(target.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
    assert target.sum() == len(t) * len(h) * len(w)
    return len(t), len(h), len(w)


def test_a_group_shares_one_block_size_and_groups_differ() -> None:
    one_block = MultiBlock(1, (0.15, 0.15), temporal_scale=(0.5, 0.5))
    sizes = [{block_shape(one_block, group, row) for row in range(5)} for group in range(30)]
    assert all(len(size) == 1 for size in sizes)
    drawn = set.union(*sizes)
    assert drawn == {(4, 5, 5), (4, 5, 6), (4, 6, 4), (4, 6, 5), (4, 7, 4)}


def test_configurations_share_the_aspect_ratio_of_a_group() -> None:
    # Two scales of almost the same area round to the same block if, and only if, the ratio is the same.
    near = MultiBlock(1, (0.1501, 0.1501))
    exact = MultiBlock(1, (0.15, 0.15))
    shapes = [(block_shape(exact, group, 0), block_shape(near, group, 0)) for group in range(20)]
    assert all(a == b for a, b in shapes)
    assert len({a for a, _ in shapes}) > 1


def test_max_keep_bounds_the_context_only() -> None:
    bounded = MultiBlock(8, (0.15, 0.15), max_keep=10)
    context, target = sample_group(bounded, (8, 14, 14), 0, 0, 0, 4)
    assert context.shape == (4, 10)
    assert target.shape == sample_group(SHORT, (8, 14, 14), 0, 0, 0, 4).target.shape


def test_samples_without_context_are_drawn_again() -> None:
    # Three blocks of half the frame each leave nothing in a good part of the draws.
    mask = MultiBlock(3, (0.5, 0.5))
    for group in range(50):
        targets = sample_targets(mask, (1, 3, 3), seed=0, mask_id=0, group=group, group_size=32)
        assert not targets.all(axis=1).any()


@pytest.mark.parametrize(
    ("mask", "grid"), [(MultiBlock(1, (1.0, 1.0), aspect_ratio=(1.0, 1.0)), (2, 4, 4)), (RandomTube(0.99), (2, 4, 4))]
)
def test_a_mask_without_context_is_an_error_that_says_so(mask: Mask, grid: Grid) -> None:
    with pytest.raises(ValueError, match="leaves no context"):
        sample_group(mask, grid, 0, 0, 0, 2)
