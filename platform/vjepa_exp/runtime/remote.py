"""Work on many files as tasks of Ray: they wait for free CPUs, so a cluster that grows is used as it grows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from vjepa_exp.data.cache import Cache, current_cache, use_cache
from vjepa_exp.data.guard import Lost, kept_guard
from vjepa_exp.spec.errors import UserError

T = TypeVar("T")
R = TypeVar("R")

QUEUED_PER_CPU = 4
"""Chunks that wait or run: enough that an autoscaler sees the demand, few enough that a killed driver loses little."""
RETRIES = 3
"""Of a chunk whose machine or Ray worker was lost; what a file does to its own process is not retried."""


@ray.remote(num_cpus=1, max_retries=RETRIES)
def _chunk(work: Callable[[Any], Any], deadline_s: float, cache: Cache, items: list[Any]) -> list[Any]:
    use_cache(cache)
    guard = kept_guard(work, deadline_s)
    return [guard(item) for item in items]


def each_on_ray(
    work: Callable[[T], R], items: Sequence[T], *, deadline_s: float, chunk: int
) -> Iterator[tuple[int, R | Lost]]:
    """Do the work on every item, in Ray as it runs now.

    Args:
        work: as for `guard.Guard`.
        items: what to do it on.
        deadline_s: how long one item may take.
        chunk: items of one task.

    Yields:
        Number of an item and its result, in the order in which they are done.

    Raises:
        UserError: of the work, or a remote file cannot be fetched.
    """
    shared, cache = ray.put(work), current_cache()
    todo = deque(range(start, min(start + chunk, len(items))) for start in range(0, len(items), chunk))
    running: dict[ray.ObjectRef[list[Any]], range] = {}
    while todo or running:
        room = QUEUED_PER_CPU * max(1, int(ray.cluster_resources().get("CPU", 1)))
        while todo and len(running) < room:
            numbers = todo.popleft()
            task = _chunk.remote(shared, deadline_s, cache, [items[number] for number in numbers])
            running[task] = numbers
        for task in ray.wait(list(running), num_returns=1)[0]:
            numbers = running.pop(task)
            try:
                results = ray.get(task)
            except RayTaskError as error:
                if isinstance(error.cause, UserError):
                    raise error.cause from None
                raise  # a defect of the work or of this module, not of a file
            except RayError as error:
                if len(numbers) > 1:  # one of them may be to blame
                    todo.extend(range(number, number + 1) for number in numbers)
                    continue
                results = [Lost(f"its Ray worker was lost {RETRIES + 1} times: {type(error).__name__}")]
            yield from zip(numbers, results, strict=True)
