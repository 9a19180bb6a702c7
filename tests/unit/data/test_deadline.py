from __future__ import annotations

import threading
import time

import pytest

from vjepa_exp.data.deadline import within


def test_results_and_errors_come_through() -> None:
    assert within(5, lambda a, b: a + b, 1, b=2) == 3
    with pytest.raises(KeyError, match="x"):
        within(5, {}.__getitem__, "x")


def test_a_call_that_hangs_is_left_behind_and_the_next_one_works() -> None:
    release = threading.Event()
    start = time.perf_counter()
    with pytest.raises(TimeoutError):
        within(0.2, release.wait, 60)
    assert within(5, lambda: 7) == 7
    assert time.perf_counter() - start < 5
    release.set()


def test_an_error_of_the_call_that_looks_like_a_timeout_keeps_the_thread() -> None:
    def ident() -> int:
        return threading.get_ident()

    def fail() -> None:
        raise TimeoutError("of its own")

    before = within(5, ident)
    with pytest.raises(TimeoutError, match="of its own"):
        within(5, fail)
    assert within(5, ident) == before
