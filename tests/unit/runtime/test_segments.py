"""Segments of a long stream give what one run over everything gives, begun in time and no earlier."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import pytest

from vjepa_exp.runtime.segments import in_segments


def squares(items: list[int]) -> Iterator[int]:
    return (item * item for item in items)


@pytest.mark.parametrize("count", [0, 1, 4, 5, 10, 11])
@pytest.mark.parametrize("lead", [0, 1, 3, 9])
def test_segments_join_without_a_seam(count: int, lead: int) -> None:
    assert list(in_segments(range(count), 5, lead, squares)) == [n * n for n in range(count)]


def test_an_endless_run_plans_two_segments_at_most() -> None:
    planned: list[int] = []

    def run(items: list[int]) -> Iterator[int]:
        planned.extend(items)
        return iter(items)

    read = itertools.islice(in_segments(itertools.count(10**6), 4, 1, run), 3)
    assert list(read) == [10**6, 10**6 + 1, 10**6 + 2]
    assert planned == [10**6 + n for n in range(4)]


def test_the_next_segment_begins_before_the_present_one_ends() -> None:
    begun = threading.Event()

    def run(items: list[int]) -> Iterator[int]:
        if items[0] == 4:
            begun.set()
        return iter(items)

    outputs = in_segments(range(8), 4, 2, run)
    assert [next(outputs), next(outputs)] == [0, 1]
    assert not begun.is_set()
    assert next(outputs) == 2
    assert begun.wait(10)
    assert list(outputs) == [3, 4, 5, 6, 7]


def test_an_error_of_the_next_segment_comes_in_its_turn() -> None:
    def run(items: list[int]) -> Iterator[int]:
        if items[0] == 3:
            raise OSError("lost")
        return iter(items)

    outputs = in_segments(range(6), 3, 3, run)
    assert [next(outputs) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="lost"):
        next(outputs)


def test_a_segment_that_ends_early_is_a_fault() -> None:
    with pytest.raises(ValueError, match="shorter"):
        list(in_segments(range(6), 3, 0, lambda items: iter(items[1:])))
