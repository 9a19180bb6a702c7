"""Notice before a node goes: workers learn of it together, write a checkpoint at the next step, and leave.

Two things are a notice: SIGTERM to a training process (a pod or container that is stopped, `ray stop`), and a node that
Ray drains (what a provider's spot notice becomes). Nothing of it touches the device.
"""

from __future__ import annotations

import signal
from typing import Any

import ray
import torch
import torch.distributed as dist
from ray.train.v2._internal.execution.context import get_train_context
from torch import Tensor

from vjepa_exp.train.world import World

_terminated = False


class Notice:
    """Whether the workers of a stage are to leave, the same answer after the same step on each of them.

    The votes of a step are summed while the next one is computed, on the CPU and in a group of their own, so a notice
    is heeded one step after it came where there are several workers. Make it on every worker.
    """

    def __init__(self, world: World) -> None:
        self._group = dist.new_group(backend="gloo") if world.size > 1 else None
        self._asked: tuple[Any, Tensor] | None = None

    def given(self) -> bool:
        """Ask once after every step, on every worker."""
        told = _terminated or _drained()
        if self._group is None:
            return told
        answer = False
        if self._asked is not None:
            work, votes = self._asked
            work.wait()
            answer = bool(votes)
        votes = torch.tensor(int(told))
        self._asked = dist.all_reduce(votes, group=self._group, async_op=True), votes
        return answer


def heed_notices() -> None:
    """Have SIGTERM be a notice to this training worker from here on.

    Training runs in a thread of its worker, and signals come to the main thread alone: there the actor does its tasks.
    """
    actor: Any = ray.get_runtime_context().current_actor
    ray.get(actor.execute.remote(heed_sigterm))


def heed_sigterm() -> None:
    """Have SIGTERM be a notice in this process, whose main thread this is."""

    def told(*_: object) -> None:
        global _terminated
        _terminated = True

    signal.signal(signal.SIGTERM, told)


def terminated() -> bool:
    """Whether SIGTERM came to this process since it heeds it."""
    return _terminated


def _drained() -> bool:
    """Whether Ray drains a node of these workers; it tells all of them."""
    return get_train_context().preemption_context.preemption_info is not None
