"""A time limit for calls into C code that may never come back: no signal reaches it, but a thread can stop waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
_local = threading.local()


class _Runner:
    """One daemon thread that does calls in turn; a process can end while it hangs."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        threading.Thread(target=self._serve, name="decode", daemon=True).start()

    def start(self, function: Callable[[], R]) -> Future[R]:
        future: Future[R] = Future()
        self._calls.put((future, function))
        return future

    def abandon(self) -> None:
        """Let the thread end if its call ever comes back."""
        self._calls.put(None)

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            future, function = call
            try:
                future.set_result(function())
            except BaseException as error:  # noqa: BLE001 (handed on to the thread that waits)
                future.set_exception(error)


def within(seconds: float, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call `function` and wait for it at most so long; a call that hangs keeps its thread, nothing else.

    Raises:
        TimeoutError: the call did not come back in time.
    """
    if not hasattr(_local, "runner"):
        _local.runner = _Runner()
    runner: _Runner = _local.runner
    future = runner.start(lambda: function(*args, **kwargs))
    try:
        return future.result(seconds)
    except TimeoutError:
        if not future.done():
            runner.abandon()
            del _local.runner
        raise
