"""How the stages of one level share what there is: how many at a time, on which device, with how many threads."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil
from typing import Literal

from vjepa_exp.graph.machine import Machine
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.execution import ExecutionSpec

STAGE_BYTES = 3 * 2**30
"""Memory that one stage's processes take on a CPU, model and clips of a laptop profile included."""

ACCELERATOR_SHARE = 0.001
"""Of the resource `accelerator_type:A100` of a node: whoever asks for so much gets a node with such GPUs, or brings
one up."""


OF_ANY_NODE = {"CPU", "GPU", "memory"}
"""Resources that Ray finds by itself."""


@dataclass(frozen=True)
class Slots:
    """A level's share of the machine, or of the cluster."""

    device: Literal["cpu", "cuda"]
    concurrent: int
    """Stages at the same time."""
    workers: int
    """Training processes of one stage."""
    decode_workers: int
    """Decoding processes of one training process."""
    threads: int
    """Torch threads of one training process."""
    asks: dict[str, float] = field(default_factory=lambda: {"CPU": 1.0})
    """What one training process asks of Ray."""
    joined: bool = False
    """Whether nodes come and go: what is missing is waited for, and what was lost comes back."""

    @property
    def cpus(self) -> int:
        """Logical CPUs that the stages hold together: each training and each decoding process asks for one."""
        return ceil(self.concurrent * self.workers * (self.asks["CPU"] + self.decode_workers))

    @property
    def gpus(self) -> int:
        """GPUs that the stages hold together."""
        return ceil(self.concurrent * self.workers * self.asks.get("GPU", 0))


def choose_device(execution: ExecutionSpec, machine: Machine) -> Literal["cpu", "cuda"]:
    """The device that the execution names, else GPUs where there are enough for one stage."""
    return execution.device or ("cuda" if len(machine.gpus) >= execution.fewest_workers else "cpu")


def choose_slots(
    execution: ExecutionSpec, stages: int, machine: Machine, *, joined: bool = False, accelerator: str | None = None
) -> Slots:
    """Settle what the execution leaves open, from the number of stages of the level and the machine alone.

    The stages that a store already holds count as well: a run that continues uses as many threads as the one that
    it continues, and so makes the same sums in the same order.

    Args:
        execution: what is settled already.
        stages: of the level.
        machine: what there is, or can be once all nodes of a cluster are up.
        joined: it is a cluster, whose CPUs are counted by Ray; on this machine Ray declares what the run asks for.
        accelerator: kind of the GPUs to ask for by name, None for any.

    Raises:
        UserError: there can never be enough for one stage.
    """
    device = choose_device(execution, machine)
    asks = {"CPU": 1.0, **({"GPU": 1.0} if device == "cuda" else {}), **execution.worker_resources}
    if accelerator is not None and asks.get("GPU"):
        asks[f"accelerator_type:{accelerator}"] = ACCELERATOR_SHARE
    workers, offered = most_workers(execution, asks, machine, joined=joined), _offered(machine)
    rooms = [int(offered[name] // (workers * amount)) for name, amount in _limited(execution, asks, joined).items()]
    rooms = rooms or [machine.cores // workers]
    if device == "cpu":
        rooms.append(machine.memory_bytes // (STAGE_BYTES * workers))
    at_most = min(rooms) if joined or asks.get("GPU") else stages
    concurrent = max(1, min(stages, execution.concurrent_trials or min(rooms), at_most))
    return Slots(
        device=device,
        concurrent=concurrent,
        workers=workers,
        decode_workers=execution.decoders,
        threads=execution.threads or max(1, machine.cores // (concurrent * workers)),
        asks=asks,
        joined=joined,
    )


def most_workers(execution: ExecutionSpec, asks: dict[str, float], machine: Machine, *, joined: bool) -> int:
    """Workers of a stage that there can be room for: those of the execution, fewer where it allows them.

    Args:
        execution: of the stage.
        asks: what a training worker asks for.
        machine: what there is, or can be.
        joined: as for `choose_slots`.

    Raises:
        UserError: there can never be enough.
    """
    unknown = execution.worker_resources.keys() - OF_ANY_NODE
    if unknown and not joined:
        raise UserError(f"execution.worker_resources: only nodes of a cluster offer {', '.join(sorted(unknown))}")
    fewest, most, offered = execution.fewest_workers, execution.workers, _offered(machine)
    for name, amount in _limited(execution, asks, joined).items():
        most = min(most, int(offered[name] // amount))
        if most < fewest:
            device = f"execution.device is {execution.device} and " if execution.device else ""
            workers = "workers" if execution.min_workers is None else "min_workers"
            each = "" if amount == 1 else f" with {amount:g} {name}s each"
            there = f"{offered[name]} {name}s {'at most ' if joined else ''}{machine.place}"
            raise UserError(f"{device}execution.{workers} {fewest}{each}, but there are {there}")
    return most


def _offered(machine: Machine) -> dict[str, int]:
    return {"GPU": len(machine.gpus), "CPU": machine.cores}


def _limited(execution: ExecutionSpec, asks: dict[str, float], joined: bool) -> dict[str, float]:
    """What one worker and its decoders take of what is counted."""
    gpus = {"GPU": asks["GPU"]} if asks.get("GPU") else {}
    return gpus | ({"CPU": asks["CPU"] + execution.decoders} if joined else {})
