"""Work that kills or hangs its process costs itself. The work is the standard library's: children can import it."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing.process import BaseProcess

import psutil
import pytest

from vjepa_exp.data.guard import Guard, Lost, each_locally, kept_guard


def test_a_death_is_told_by_its_signal_and_the_others_get_their_results() -> None:
    signals = [0, signal.SIGKILL, 0, signal.SIGSEGV, 0]
    results = dict(each_locally(signal.raise_signal, signals, processes=2, deadline_s=60))
    assert results == {
        0: None,
        1: Lost("its process died by SIGKILL"),
        2: None,
        3: Lost("its process died by SIGSEGV"),
        4: None,
    }


def test_a_death_that_another_thread_heard_of_first_is_told_by_its_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = iter([None, None, -signal.SIGSEGV])
    monkeypatch.setattr(BaseProcess, "exitcode", property(lambda _: next(codes)))
    guard = Guard(signal.raise_signal, deadline_s=60)
    assert guard(signal.SIGSEGV) == Lost("its process died by SIGSEGV")


def test_what_does_not_come_back_is_ended_and_does_not_hold_up_the_others() -> None:
    begun = time.monotonic()
    results = list(each_locally(time.sleep, [0, 1000, 0, 0], processes=2, deadline_s=2))
    assert results[-1] == (1, Lost("its process did not come back in 2 s"))
    assert sorted(results[:-1]) == [(0, None), (2, None), (3, None)]
    assert time.monotonic() - begun < 120


def test_an_error_of_the_work_is_its_reason() -> None:
    guard = Guard(int, deadline_s=60)
    assert guard("7") == 7
    assert guard("seven") == Lost("ValueError: invalid literal for int() with base 10: 'seven'")
    assert guard("8") == 8
    guard.close()


def test_no_process_is_left_when_the_caller_stops_early() -> None:
    before = set(psutil.Process().children())
    results = each_locally(time.sleep, [0, 1000, 1000], processes=2, deadline_s=1000)
    assert next(results) == (0, None)
    results.close()  # type: ignore[attr-defined]
    assert set(psutil.Process().children()) <= before | _trackers()


def _trackers() -> set[psutil.Process]:
    """multiprocessing's own helper, one for the life of this process."""
    return {child for child in psutil.Process().children() if "resource_tracker" in " ".join(child.cmdline())}


def test_a_process_keeps_its_guard_for_the_same_work() -> None:
    first = kept_guard(os.path.basename, 60)
    assert first("a/b") == "b"
    assert kept_guard(os.path.basename, 60) is first
    other = kept_guard(int, 60)
    assert other("3") == 3
    assert first._child is None
    other.close()


def test_work_that_cannot_start_is_no_fault_of_a_file() -> None:
    guard = Guard(_Unfit(), deadline_s=60)
    with pytest.raises(RuntimeError, match="could not start"):
        guard(1)


class _Unfit:
    """Work that the child cannot unpickle."""

    def __reduce__(self) -> tuple[object, ...]:
        return int, ("no number",)
