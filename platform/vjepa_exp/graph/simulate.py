"""A discrete-event simulation of stages on a cluster. Nothing in it is random but the life of nodes.

Stages are placed as Ray does it: first come, first served, workers together on as few nodes as possible. A stage holds
its GPUs and CPUs from its start to its end. A lost node stops every stage that is on it; the stage goes on from its
last checkpoint when there are GPUs for all its workers again. No notice of a loss is counted on, nor a start with fewer
workers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import takewhile
from math import inf
from typing import NamedTuple

from vjepa_exp.graph.fleet import Fleet, Nodes

EPSILON = 1e-6
"""Seconds by which sums of seconds may miss each other."""


@dataclass(frozen=True)
class Task:
    """Stages that share one trial."""

    name: str
    gpus: int
    cpus: int
    seconds: float
    """Of training, checkpoints included."""
    turn: int = 0
    """It waits for all tasks of lower turns."""
    needs: tuple[int, ...] = ()
    """Places of tasks that it stands on."""
    checkpoint_s: float = inf
    """Seconds of training between two checkpoints; after a loss the rest of one is done again."""
    rank: float = 0.0
    """Tasks that wait are served by rank, then by place."""
    at_once: float = inf
    """It waits while so many tasks run."""


class Moment(NamedTuple):
    """What holds from a time on."""

    time_s: float
    busy_gpus: int
    nodes: int
    """Up or starting."""
    decode_nodes: int


@dataclass(frozen=True)
class Simulation:
    """What came out. GPU seconds are those of tasks, node seconds those that are paid for."""

    fleet: Fleet
    makespan_s: float
    moments: tuple[Moment, ...]
    spans: tuple[tuple[float, float], ...]
    """Of each task, first start and end."""
    restarts: tuple[int, ...]
    """Of each task."""
    useful_gpu_s: float
    """Training that counts."""
    lost_gpu_s: float
    """Training that was done again, and starts."""
    node_s: float
    decode_node_s: float
    interruptions: int

    @property
    def busy_gpu_s(self) -> float:
        """GPUs in the hands of stages, integrated over time."""
        pairs = zip(self.moments, self.moments[1:], strict=False)
        return sum((after.time_s - moment.time_s) * moment.busy_gpus for moment, after in pairs)

    @property
    def paid_gpu_s(self) -> float:
        """GPUs of nodes from their request until they go."""
        return self.node_s * self.fleet.gpus_per_node

    @property
    def utilisation(self) -> float:
        """Training that counts, of what all GPUs that the cluster may have could have done meanwhile."""
        return self.useful_gpu_s / (self.fleet.gpus * self.makespan_s) if self.makespan_s else 0.0


def simulate(tasks: Sequence[Task], fleet: Fleet, seed: int = 0) -> Simulation:
    """Run tasks on a fleet until the last one is done.

    Raises:
        ValueError: a task can never be placed.
    """
    room = fleet.max_nodes * fleet.cpus_per_node + fleet.max_decode_nodes * fleet.decode_cpus
    for task in tasks:
        if task.gpus > fleet.gpus or task.cpus > room:
            raise ValueError(f"{task.name} asks for {task.gpus} GPUs and {task.cpus} CPUs of {fleet.gpus} and {room}")
    return _Simulator(tasks, fleet, seed).run()


@dataclass
class _Progress:
    """How far a task is."""

    done_s: float = 0.0
    started: float | None = None
    """Of the attempt that runs."""
    first_start: float = 0.0
    ended: float | None = None
    attempt: int = 0
    placed: dict[int, int] = field(default_factory=dict)


Event = tuple[float, int, Callable[[int, int], None], int, int]
"""Time, serial number (which keeps events of one time in turn), what happens, to which node or task, attempt."""


class _Simulator:
    def __init__(self, tasks: Sequence[Task], fleet: Fleet, seed: int) -> None:
        self.tasks, self.fleet, self.seed = tasks, fleet, seed
        self.nodes = Nodes(fleet)
        self.progress = [_Progress() for _ in tasks]
        self.unfinished = sorted(range(len(tasks)), key=lambda i: (tasks[i].turn, tasks[i].rank, i))
        self.now, self.events, self.serial, self.launched = 0.0, list[Event](), 0, 0
        self.moments = list[Moment]()
        self.idle_since = dict[int, float]()
        self.node_s = self.decode_node_s = self.lost = 0.0
        self.interruptions = 0

    def run(self) -> Simulation:
        self._settle()
        while self.unfinished:
            time, _, happen, number, attempt = heappop(self.events)
            self._advance(time)
            happen(number, attempt)
            self._settle()
        makespan = self.now
        self.node_s += (len(self.nodes.free) + self.nodes.starting) * self.fleet.idle_s  # until the last ones go
        useful = sum(task.gpus * task.seconds for task in self.tasks)
        return Simulation(
            self.fleet,
            makespan,
            tuple(self.moments),
            tuple((one.first_start, one.ended or 0.0) for one in self.progress),
            tuple(max(0, one.attempt - 1) for one in self.progress),
            useful,
            self.lost,
            self.node_s,
            self.decode_node_s,
            self.interruptions,
        )

    def _at(self, time: float, happen: Callable[[int, int], None], number: int, attempt: int = 0) -> None:
        self.serial += 1
        heappush(self.events, (time, self.serial, happen, number, attempt))

    def _advance(self, time: float) -> None:
        passed = time - self.now
        self.node_s += passed * (len(self.nodes.free) + self.nodes.starting)
        self.decode_node_s += passed * self.nodes.decode_nodes
        self.now = time

    def _settle(self) -> None:
        """Start what can start, ask for nodes for the rest, note how things stand."""
        waiting = list[tuple[int, int]]()
        running = sum(one.started is not None for one in self.progress)
        for i in self._ready():
            task, one = self.tasks[i], self.progress[i]
            if running + len(waiting) >= task.at_once:
                continue
            placed = self.nodes.place(task.gpus, task.cpus)
            if placed is None:
                waiting.append((task.gpus, task.cpus))
                continue
            one.first_start = self.now if one.attempt == 0 else one.first_start
            running += 1
            one.placed, one.started, one.attempt = placed, self.now, one.attempt + 1
            self._at(self.now + self.fleet.stage_start_s + task.seconds - one.done_s, self._end, i, one.attempt)
        for _ in range(self.nodes.wanted(waiting)):
            self.nodes.starting += 1
            self._at(self.now + self.fleet.start_s, self._up, self.launched)
            self.launched += 1
        self._give_back(bool(waiting))
        state = (self.nodes.busy_gpus, len(self.nodes.free) + self.nodes.starting, self.nodes.decode_nodes)
        self.moments.append(Moment(self.now, *state))

    def _ready(self) -> list[int]:
        """Tasks that wait for nothing but a place, in the order in which they are served."""
        turn = self.tasks[self.unfinished[0]].turn if self.unfinished else 0
        now = takewhile(lambda i: self.tasks[i].turn == turn, self.unfinished)
        return [
            i
            for i in now
            if self.progress[i].started is None
            and all(self.progress[needed].ended is not None for needed in self.tasks[i].needs)
        ]

    def _give_back(self, waits: bool) -> None:
        """Let nodes go that have been idle for long enough, unless something waits for more nodes beside them."""
        idle = {number for number, free in self.nodes.free.items() if free == self.fleet.gpus_per_node}
        for number in self.idle_since.keys() - idle:
            del self.idle_since[number]
        for number in sorted(idle - self.idle_since.keys()):
            self.idle_since[number] = self.now
            self._at(self.now + self.fleet.idle_s, self._look, number)
        for number, since in list(self.idle_since.items()):
            over = self.now - since >= self.fleet.idle_s - EPSILON
            if over and not waits and len(self.nodes.free) > self.fleet.min_nodes:
                del self.nodes.free[number], self.idle_since[number]

    def _look(self, number: int, _: int) -> None:
        """Nothing happens but that things are settled."""

    def _up(self, number: int, _: int) -> None:
        self.nodes.starting -= 1
        self.nodes.free[number] = self.fleet.gpus_per_node
        life = self.fleet.life(self.seed, number)
        if life < inf:
            self._at(self.now + life, self._gone, number)

    def _gone(self, number: int, _: int) -> None:
        if number not in self.nodes.free:
            return
        self.interruptions += 1
        del self.nodes.free[number]
        self.idle_since.pop(number, None)
        for i, one in enumerate(self.progress):
            if one.started is not None and number in one.placed:
                self._stop(i)

    def _stop(self, i: int) -> None:
        """A task loses its GPUs, and what it did since its last checkpoint."""
        task, one = self.tasks[i], self.progress[i]
        assert one.started is not None
        held = self.now - one.started
        reached = one.done_s + max(0.0, held - self.fleet.stage_start_s)
        whole = reached // task.checkpoint_s * task.checkpoint_s if task.checkpoint_s < inf else 0.0
        kept = max(one.done_s, whole)
        self.lost += task.gpus * (held - (kept - one.done_s))
        one.done_s, one.started = kept, None
        self._free(i)

    def _end(self, i: int, attempt: int) -> None:
        one = self.progress[i]
        if one.attempt != attempt or one.started is None:
            return  # of an attempt that was stopped
        self.lost += self.tasks[i].gpus * self.fleet.stage_start_s
        one.ended, one.started = self.now, None
        self.unfinished.remove(i)
        self._free(i)

    def _free(self, i: int) -> None:
        self.nodes.leave(self.progress[i].placed, self.tasks[i].cpus)
        self.progress[i].placed = {}
