"""How the stages of one level share the machine: how many at a time, on which device, with how many threads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vjepa_exp.graph.machine import Machine
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.execution import ExecutionSpec

STAGE_BYTES = 3 * 2**30
"""Memory that one stage's processes take on a CPU, model and clips of a laptop profile included."""


@dataclass(frozen=True)
class Slots:
    """A level's share of the machine."""

    device: Literal["cpu", "cuda"]
    concurrent: int
    """Stages at the same time."""
    workers: int
    """Training processes of one stage."""
    decode_workers: int
    """Decoding processes of one training process."""
    threads: int
    """Torch threads of one training process."""

    @property
    def cpus(self) -> int:
        """Logical CPUs that the stages hold together: each training and each decoding process asks for one."""
        return self.concurrent * self.workers * (1 + self.decode_workers)

    @property
    def gpus(self) -> int:
        """GPUs that the stages hold together."""
        return self.concurrent * self.workers if self.device == "cuda" else 0


def choose_device(execution: ExecutionSpec, machine: Machine) -> Literal["cpu", "cuda"]:
    """The device that the execution names, else GPUs where there are enough for one stage."""
    return execution.device or ("cuda" if len(machine.gpus) >= execution.workers else "cpu")


def choose_slots(execution: ExecutionSpec, stages: int, machine: Machine) -> Slots:
    """Settle what the execution leaves open, from the number of stages of the level and the machine alone.

    The stages that a store already holds count as well: a run that continues uses as many threads as the one that
    it continues, and so makes the same sums in the same order.

    Raises:
        UserError: the machine has too few GPUs for one stage.
    """
    device = choose_device(execution, machine)
    if device == "cuda" and len(machine.gpus) < execution.workers:
        raise UserError(
            f"execution.device is cuda and execution.workers {execution.workers}, "
            f"but there are {len(machine.gpus)} GPUs here"
        )
    if device == "cuda":
        room = len(machine.gpus) // execution.workers
    else:
        room = min(machine.cores // execution.workers, machine.memory_bytes // (STAGE_BYTES * execution.workers))
    concurrent = max(1, min(stages, execution.concurrent_trials or room, room if device == "cuda" else stages))
    return Slots(
        device=device,
        concurrent=concurrent,
        workers=execution.workers,
        decode_workers=execution.decode_workers,
        threads=execution.threads or max(1, machine.cores // (concurrent * execution.workers)),
    )
