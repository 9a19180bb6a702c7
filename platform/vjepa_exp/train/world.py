"""The place a worker has among its equals. Distribution comes from outside: this room opens no process group."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vjepa_exp.spec.errors import UserError

T = TypeVar("T")
CPU = torch.device("cpu")


def as_it_is(module: nn.Module) -> nn.Module:
    """The module itself: what a single process wraps its model in."""
    return module


@dataclass(frozen=True)
class World:
    """Rank of this worker, number of workers, device, and how a module is wrapped for them (DDP where size > 1)."""

    rank: int = 0
    size: int = 1
    device: torch.device = CPU
    wrap: Callable[[nn.Module], nn.Module] = as_it_is

    def shares(self, num_rows: int) -> list[range]:
        """The contiguous rows of a batch of every worker; where they do not divide, the first ones have one more."""
        small, larger = divmod(num_rows, self.size)
        starts = [rank * small + min(rank, larger) for rank in range(self.size + 1)]
        return [range(start, stop) for start, stop in pairwise(starts)]

    def rows(self, num_rows: int) -> range:
        """This worker's rows of a batch."""
        return self.shares(num_rows)[self.rank]

    def batch_rows(self, batch_size: int) -> range:
        """This worker's rows of a global batch, at least one.

        Raises:
            UserError: there are more workers than rows.
        """
        if batch_size < self.size:
            raise UserError(
                f"batch_size {batch_size} cannot be shared by {self.size} workers: "
                f"set execution.workers to {batch_size} or fewer"
            )
        return self.rows(batch_size)

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the workers, the same on each of them."""
        if self.size > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def gather_rows(self, rows: Tensor) -> Tensor:
        """The rows of all workers (any number each) in order of rank, on every worker."""
        if self.size == 1:
            return rows
        counts = self.gather(len(rows))
        padded = rows.new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    def gather(self, value: T) -> list[T]:
        """One small picklable value of every worker, in order of rank."""
        if self.size == 1:
            return [value]
        values: list[T] = [value] * self.size
        dist.all_gather_object(values, value)
        return values
