"""A cluster in simulation: nodes that come when work waits, go when they are idle, and are lost, and who is on them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import ceil, inf
from random import Random


@dataclass(frozen=True)
class Fleet:
    """What a cluster may have, and how its nodes behave. Times are seconds."""

    gpus_per_node: int
    max_nodes: int
    cpus_per_node: int
    """Of a GPU node."""
    decode_cpus: int = 0
    """Of one node for decoding."""
    max_decode_nodes: int = 0
    min_nodes: int = 0
    start_s: float = 0.0
    idle_s: float = 0.0
    stage_start_s: float = 0.0
    """From free GPUs until a stage trains."""
    interruptions_per_s: float = 0.0
    """Of one GPU node."""

    @property
    def gpus(self) -> int:
        """At most."""
        return self.max_nodes * self.gpus_per_node

    def life(self, seed: int, number: int) -> float:
        """Seconds after which the node of this number is lost: exponential, a function of its arguments alone."""
        if not self.interruptions_per_s:
            return inf
        key = hashlib.sha256(f"{seed}/{number}".encode()).digest()
        return Random(key).expovariate(self.interruptions_per_s)


@dataclass
class Nodes:
    """The GPU nodes that are up, and the CPUs that are held. Nodes for decoding are counted, not named."""

    fleet: Fleet
    free: dict[int, int] = field(default_factory=dict)
    """Number of a node -> its free GPUs."""
    starting: int = 0
    held_cpus: int = 0

    @property
    def free_gpus(self) -> int:
        """On all nodes."""
        return sum(self.free.values())

    @property
    def free_cpus(self) -> int:
        """On all nodes, with all nodes for decoding that may come."""
        fleet = self.fleet
        there = len(self.free) * fleet.cpus_per_node + fleet.max_decode_nodes * fleet.decode_cpus
        return there - self.held_cpus

    @property
    def busy_gpus(self) -> int:
        """In the hands of stages."""
        return len(self.free) * self.fleet.gpus_per_node - self.free_gpus

    @property
    def decode_nodes(self) -> int:
        """As many as hold what the GPU nodes' own CPUs do not."""
        more = max(0, self.held_cpus - len(self.free) * self.fleet.cpus_per_node)
        return min(self.fleet.max_decode_nodes, ceil(more / self.fleet.decode_cpus)) if self.fleet.decode_cpus else 0

    def place(self, gpus: int, cpus: int) -> dict[int, int] | None:
        """GPUs on as few nodes as are free, the fullest that suffices first; None where there are too few."""
        if gpus > self.free_gpus or cpus > self.free_cpus:
            return None
        whole = [(free, number) for number, free in self.free.items() if free >= gpus]
        if whole:
            taken = {min(whole)[1]: gpus}
        else:
            taken = {}
            for free, number in sorted(((free, -number) for number, free in self.free.items() if free), reverse=True):
                taken[-number] = min(free, gpus - sum(taken.values()))
                if sum(taken.values()) == gpus:
                    break
        for number, count in taken.items():
            self.free[number] -= count
        self.held_cpus += cpus
        return taken

    def leave(self, taken: dict[int, int], cpus: int) -> None:
        """Give back what was placed; nodes that are gone meanwhile get nothing."""
        for number, count in taken.items():
            if number in self.free:
                self.free[number] += count
        self.held_cpus -= cpus

    def wanted(self, waiting: Iterable[tuple[int, int]]) -> int:
        """How many more nodes to ask for so that work of these (GPUs, CPUs) need not wait."""
        work = list(waiting)
        if not work:
            return 0
        gpus, cpus = (sum(column) for column in zip(*work, strict=True))
        fleet = self.fleet
        nodes = max(
            ceil((gpus - self.free_gpus) / fleet.gpus_per_node), ceil((cpus - self.free_cpus) / fleet.cpus_per_node)
        )
        room = fleet.max_nodes - len(self.free) - self.starting
        return max(0, min(nodes - self.starting, room))
