"""The global order: which sample stands at a position is a pure function of (seed, sizes, weights, position).

A keyed permutation (a Feistel network with cycle walking) shuffles without a table, so any position costs the same and
no state has to be saved: a run continues at step k by asking for position k * batch size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vjepa_models.keyed_rng import keyed_seed

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

_ROUNDS = 8
_MIN_BITS = 6  # a Feistel network over fewer bits has too few different keys
_GOLDEN = 0x9E3779B97F4A7C15
_WORD = 2**64
_BLOCK = 10_000  # positions over which mixture weights hold exactly: four decimals
_TURN = 40  # positions that are shuffled among themselves: 2 * 40 / 10 000 bounds the error of a share by 1 %


def permute(index: Ints, size: int, seed: int, key: Ints) -> Ints:
    """Shuffle [0, size).

    Args:
        index: what to look up, each in [0, size).
        size: length of the sequence.
        seed: with `key` it names the permutation.
        key: one number for each index (an epoch).

    Returns:
        The number that stands at each index; for a fixed key every number stands at exactly one index.
    """
    bits = max(_MIN_BITS, (size - 1).bit_length())
    keys = _mix(np.uint64(seed) + key.astype(np.uint64) * np.uint64(_GOLDEN))
    words = index.astype(np.uint64)
    todo = np.arange(len(words))
    while len(todo):  # walk the cycle until it comes back below size: under two rounds on average
        words[todo] = _feistel(words[todo], bits, keys[todo])
        todo = todo[words[todo] >= size]
    return words.astype(np.int64)


def _feistel(words: Words, bits: int, keys: Words) -> Words:
    """A permutation of [0, 2^bits) for each key; the halves differ by one bit where `bits` is odd."""
    low_bits = bits // 2
    for turn in range(_ROUNDS):
        high_bits = bits - low_bits
        high, low = words >> np.uint64(low_bits), words & np.uint64((1 << low_bits) - 1)
        noise = _mix((keys + np.uint64((turn + 1) * _GOLDEN % _WORD)) ^ low)
        high ^= noise & np.uint64((1 << high_bits) - 1)
        words, low_bits = low << np.uint64(high_bits) | high, high_bits
    return words


def _mix(x: Words) -> Words:
    """The finaliser of SplitMix64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class Place(NamedTuple):
    """Where the samples at some positions come from, each [n]."""

    dataset: Ints
    epoch: Ints
    row: Ints


class Order:
    """The endless sequence of samples over one or several data sets."""

    def __init__(self, sizes: Sequence[int], weights: Sequence[float] | None, seed: int) -> None:
        """Lay out the mixture.

        Args:
            sizes: samples of each data set, all above 0.
            weights: share of each data set, up to a common factor; None: in proportion to the sizes, every sample
                once in every sum(sizes) positions.
            seed: names the order.
        """
        self.sizes = np.asarray(sizes, dtype=np.int64)
        self.seed = seed
        self._mixture = None if weights is None else _Mixture(np.asarray(weights, dtype=np.float64), seed)

    def at(self, positions: Ints) -> Place:
        """Samples at the given positions."""
        dataset, nth = self._union(positions) if self._mixture is None else self._mixture.at(positions)
        epoch, offset = np.divmod(nth, self.sizes[dataset])
        row = np.empty_like(nth)
        for number, size in enumerate(self.sizes.tolist()):
            here = dataset == number
            row[here] = permute(offset[here], size, keyed_seed(self.seed, "order", number), epoch[here])
        return Place(dataset, epoch, row)

    def _union(self, positions: Ints) -> tuple[Ints, Ints]:
        """Data set and sample of it (counted over its epochs) where all sets are shuffled as one."""
        total = int(self.sizes.sum())
        epoch, offset = np.divmod(positions, total)
        slot = permute(offset, total, keyed_seed(self.seed, "mixture"), epoch)
        ends = self.sizes.cumsum()
        dataset = np.searchsorted(ends, slot, side="right")
        return dataset, epoch * self.sizes[dataset] + slot - (ends - self.sizes)[dataset]


class _Mixture:
    """Data sets by weight: spread evenly over a block of positions, then shuffled within short turns.

    Any window holds whole turns, which follow the weights up to rounding, and parts of two more. A data set's own
    samples come in turn, so that it is gone through before any of it repeats.
    """

    def __init__(self, weights: npt.NDArray[np.float64], seed: int) -> None:
        self._seed = keyed_seed(seed, "mixture")
        self._counts = _shares(weights)
        numbers = np.repeat(np.arange(len(weights)), self._counts)
        nth = np.concatenate([np.arange(count) for count in self._counts])
        even = np.argsort((nth + 0.5) / self._counts[numbers], kind="stable").reshape(-1, _TURN)
        even.sort(axis=1)  # by data set, and in turn within it
        self._dataset, self._nth = numbers[even], nth[even]  # [turns of a block, _TURN]

    def at(self, positions: Ints) -> tuple[Ints, Ints]:
        """Data set at each position, and which of its samples (counted over its epochs)."""
        turns, back = np.unique(positions // _TURN, return_inverse=True)
        block, turn = np.divmod(turns, len(self._dataset))
        inside = np.tile(np.arange(_TURN), len(turns))
        slot = permute(inside, _TURN, self._seed, np.repeat(turns, _TURN)).reshape(-1, _TURN)
        dataset = np.take_along_axis(self._dataset[turn], slot, axis=1)
        nth = np.empty_like(dataset)
        np.put_along_axis(nth, np.argsort(dataset, axis=1, kind="stable"), self._nth[turn], axis=1)
        nth += block[:, None] * self._counts[dataset]
        place = back, positions % _TURN
        return dataset[place], nth[place]


def _shares(weights: npt.NDArray[np.float64]) -> Ints:
    """Positions of each data set in a block: whole numbers nearest to the weights that sum to the block."""
    exact = weights / weights.sum() * _BLOCK
    counts = np.maximum(np.floor(exact), 1).astype(np.int64)
    missing = _BLOCK - int(counts.sum())
    for number in np.argsort(counts - exact, kind="stable")[: max(missing, 0)]:
        counts[number] += 1
    counts[counts.argmax()] += min(missing, 0)  # tiny weights that were raised to one position
    return counts
