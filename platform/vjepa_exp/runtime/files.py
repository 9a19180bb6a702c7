"""The same work on many files: on Ray, or in a few processes here where starting Ray would cost more than it saves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from vjepa_exp.data.guard import Lost, each_locally
from vjepa_exp.graph.machine import this_machine
from vjepa_exp.runtime.environment import prepare

T = TypeVar("T")
R = TypeVar("R")

RAY_FROM = 500
"""Items from which a Ray on this machine is worth its start of several seconds."""
DEADLINE_S = 120.0


@dataclass(frozen=True)
class EachFile:
    """How work on files is spread. An item that crashes or hangs its process costs itself, wherever it is done.

    The rule: a cluster that is named is used; without one, fewer than `RAY_FROM` items are done by processes of this
    machine, and more by a Ray that is started here.

    Attributes:
        address: of a Ray cluster whose machines see the same paths; None: this machine.
        deadline_s: how long one item may take.
        chunk: items that travel together on Ray.
        verbose: show Ray's own messages.
    """

    address: str | None = None
    deadline_s: float = DEADLINE_S
    chunk: int = 16
    verbose: bool = False

    def __call__(self, work: Callable[[T], R], items: Sequence[T], /) -> Iterator[tuple[int, R | Lost]]:
        """Results as they come, each with the number of its item."""
        if not self.on_ray(len(items)):
            cores = this_machine().cores
            yield from each_locally(work, items, processes=cores, deadline_s=self.deadline_s)
            return
        with self.started(len(items)):
            from vjepa_exp.runtime.remote import each_on_ray

            yield from each_on_ray(work, items, deadline_s=self.deadline_s, chunk=self.chunk)

    @contextmanager
    def started(self, count: int) -> Iterator[None]:
        """Ray for several calls, started once where so many items are done on it."""
        if not self.on_ray(count):
            yield
            return
        prepare(self.address, self.verbose)
        from vjepa_exp.runtime.session import ray_session  # Ray: a second

        cpus = this_machine().cores if self.address is None else 1
        with ray_session(self.address, cpus, 0, self.verbose, dashboard=False):
            yield

    def on_ray(self, count: int) -> bool:
        """Whether so many items are done on Ray."""
        return count > 0 and (self.address is not None or count >= RAY_FROM)
