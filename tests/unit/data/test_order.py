from __future__ import annotations

import time

import numpy as np
import pytest

from vjepa_exp.data.order import Order, permute


@pytest.mark.parametrize("size", [1, 2, 3, 64, 65, 1000, 4097])
def test_every_number_stands_at_one_index(size: int) -> None:
    for key in (0, 1, 7):
        found = permute(np.arange(size), size, seed=3, key=np.full(size, key))
        assert sorted(found.tolist()) == list(range(size))


def test_permutations_differ_by_seed_and_key_and_not_by_what_else_is_asked() -> None:
    index, size = np.arange(500), 500
    base = permute(index, size, 1, np.zeros(500, dtype=np.int64))
    assert (base != permute(index, size, 2, np.zeros(500, dtype=np.int64))).mean() > 0.9
    assert (base != permute(index, size, 1, np.ones(500, dtype=np.int64))).mean() > 0.9
    mixed = permute(np.array([17, 3, 499]), size, 1, np.array([0, 5, 0]))
    assert mixed[[0, 2]].tolist() == base[[17, 499]].tolist()


@pytest.mark.parametrize("size", [2, 5, 60, 700])
def test_each_place_is_uniform_over_keys(size: int) -> None:
    keys = np.arange(20_000)
    for index in (0, size // 2, size - 1):
        counts = np.bincount(permute(np.full(len(keys), index), size, 11, keys), minlength=size)
        expected = len(keys) / size
        chi2 = ((counts - expected) ** 2 / expected).sum()
        assert abs(chi2 - (size - 1)) < 6 * np.sqrt(2 * (size - 1))


def test_neighbours_are_unrelated() -> None:
    found = permute(np.arange(10_000), 10_000, 5, np.zeros(10_000, dtype=np.int64))
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 0.05
    assert abs(np.corrcoef(found, np.arange(10_000))[0, 1]) < 0.05


def test_a_position_costs_the_same_in_a_large_set() -> None:
    order = Order([2_000_000, 300_000_000], None, seed=0)
    start = time.perf_counter()
    place = order.at(np.arange(10**12, 10**12 + 3072))
    assert time.perf_counter() - start < 2
    assert (place.row < order.sizes[place.dataset]).all()


def test_without_weights_every_sample_comes_once_an_epoch() -> None:
    order = Order([7, 30, 3], None, seed=4)
    for epoch in (0, 5):
        place = order.at(np.arange(40 * epoch, 40 * (epoch + 1)))
        assert (place.epoch == epoch).all()
        seen = {(int(d), int(r)) for d, r in zip(place.dataset, place.row, strict=True)}
        assert len(seen) == 40


def test_any_window_of_positions_gives_what_the_whole_stream_gives() -> None:
    order = Order([50, 9], [0.7, 0.3], seed=8)
    whole = order.at(np.arange(30_000))
    part = Order([50, 9], [0.7, 0.3], seed=8).at(np.array([29_999, 12_345, 3]))
    for column in range(3):
        assert part[column].tolist() == whole[column][[29_999, 12_345, 3]].tolist()


def test_weights_hold_exactly_over_a_block_and_nearly_over_a_short_run() -> None:
    weights = [0.335, 0.100, 0.565]  # those of the successor paper
    order = Order([700, 20, 9000], weights, seed=1)
    counts = np.bincount(order.at(np.arange(10_000)).dataset)
    assert counts.tolist() == [3350, 1000, 5650]
    short = np.bincount(order.at(np.arange(20_000, 20_640)).dataset, minlength=3) / 640
    assert np.abs(short - weights).max() < 0.08


def test_with_weights_a_set_is_gone_through_before_it_repeats() -> None:
    place = Order([700, 20], [1.0, 1.0], seed=1).at(np.arange(10_000))
    small = place.row[place.dataset == 1]
    for epoch in range(250):
        assert sorted(small[place.epoch[place.dataset == 1] == epoch].tolist()) == list(range(20))


def test_a_tiny_weight_still_gets_its_turn() -> None:
    counts = np.bincount(Order([10, 10], [1e-9, 1.0], seed=1).at(np.arange(10_000)).dataset, minlength=2)
    assert counts[0] == 1
    counts = np.bincount(Order([10] * 4, [1e-9, 1e-9, 1e-9, 1.0], seed=1).at(np.arange(10_000)).dataset)
    assert counts.tolist() == [1, 1, 1, 9997]


@pytest.mark.parametrize(
    "weights",
    [[0.5, 0.5], [0.335, 0.1, 0.565], [0.97, 0.02, 0.01], [1 / 7] * 7, [0.3, 0.2, 0.15, 0.1, 0.1, 0.08, 0.07]],
)
def test_shares_hold_over_every_window(weights: list[float]) -> None:
    order = Order([700, 20, 9000, 50, 60, 70, 80][: len(weights)], weights, seed=2)
    for start in (0, 10**9 - 25_000):
        dataset = order.at(np.arange(start, start + 50_000)).dataset
        for number, weight in enumerate(weights):
            before = np.concatenate([[0], (dataset == number).cumsum()])
            realised = before[10_000:] - before[:-10_000]
            assert np.abs(realised - weight * 10_000).max() <= max(0.01 * weight * 10_000, 5)


def test_with_weights_the_samples_of_a_set_come_in_turn() -> None:
    place = Order([700, 21], [0.3, 0.7], seed=1).at(np.arange(40_000))
    for number, size in enumerate([700, 21]):
        rows = place.row[place.dataset == number]
        for epoch in rows[: len(rows) // size * size].reshape(-1, size):
            assert sorted(epoch.tolist()) == list(range(size))


def test_far_positions_are_reached_at_once() -> None:
    rng = np.random.default_rng(0)
    order = Order([2_000_000, 40, 170_000], [0.6, 0.1, 0.3], seed=5)
    far = rng.integers(0, 10**9, 2000)
    place = order.at(far)
    assert (place.row < order.sizes[place.dataset]).all()
    again = order.at(far[::-1])
    assert all((a == b[::-1]).all() for a, b in zip(place, again, strict=True))
    nearby = order.at(np.arange(far[0] - 50, far[0] + 50))
    assert nearby.row[50] == place.row[0]
    assert nearby.dataset[50] == place.dataset[0]
