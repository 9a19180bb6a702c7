"""A long stream in segments: what a segment costs to plan does not grow with the run, and the next is ready in time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from itertools import chain, islice
from typing import TypeVar

Item = TypeVar("Item")
Out = TypeVar("Out")


def in_segments(
    items: Iterable[Item], length: int, lead: int, run: Callable[[list[Item]], Iterator[Out]]
) -> Iterator[Out]:
    """What `run` makes of the items, as if it were given all of them at once.

    Args:
        items: may be endless; read one segment ahead.
        length: items of a segment.
        lead: outputs before the end of a segment at which the next one starts, beside it.
        run: gives one output for each item of a segment, in order.
    """
    rest = iter(items)
    segment = list(islice(rest, length))
    outputs = run(segment)
    while segment:
        following = list(islice(rest, length))
        begun: Future[Iterator[Out]] | None = None
        for left, output in zip(range(len(segment), 0, -1), outputs, strict=True):
            if following and begun is None and left <= lead:
                begun = _begin(run, following)
            yield output
        segment = following
        if following:
            outputs = begun.result() if begun else run(following)


def _begin(run: Callable[[list[Item]], Iterator[Out]], segment: list[Item]) -> Future[Iterator[Out]]:
    """Run a segment to its first output in a thread that no process waits for when it ends."""
    future: Future[Iterator[Out]] = Future()

    def begin() -> None:
        try:
            outputs = run(segment)
            future.set_result(chain([next(outputs)], outputs))
        except BaseException as error:  # noqa: BLE001 (raised where the output is needed)
            future.set_exception(error)

    threading.Thread(target=begin, name="next segment", daemon=True).start()
    return future
