"""Which rows of the global order a worker reads, batch by batch: arithmetic, without a state."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vjepa_exp.data.cache import DEFAULT_CACHE, Cache


@dataclass(frozen=True)
class Rows:
    """The positions that one worker reads, batch by batch.

    Attributes:
        batch_size: rows of a batch over all workers.
        num_batches: batches of the whole run.
        epoch_size: rows after which a batch ends early, so that none spans two epochs; None: no epochs.
        rank: this worker; it reads the rank-th contiguous share of each batch (as `train.world.World.rows`).
        world: number of workers.
    """

    batch_size: int
    num_batches: int
    epoch_size: int | None = None
    rank: int = 0
    world: int = 1

    @classmethod
    def epochs(cls, epoch_size: int, num_epochs: int, batch_size: int, rank: int = 0, world: int = 1) -> Rows:
        """All rows of a number of epochs; the last batch of each may be smaller."""
        return cls(batch_size, num_epochs * -(-epoch_size // batch_size), epoch_size, rank, world)

    def positions(self, batch: int) -> range:
        """Positions of one batch (0-based)."""
        if self.epoch_size is None:
            start, rows = batch * self.batch_size, self.batch_size
        else:
            epoch, i = divmod(batch, -(-self.epoch_size // self.batch_size))
            start = epoch * self.epoch_size + i * self.batch_size
            rows = min(self.batch_size, self.epoch_size - i * self.batch_size)
        small, larger = divmod(rows, self.world)
        start += self.rank * small + min(self.rank, larger)
        return range(start, start + small + (self.rank < larger))


@dataclass(frozen=True)
class StreamOptions:
    """How clips are decoded and carried; changes no value.

    Attributes:
        decode_workers: decoding processes of this worker.
        steps_per_block: batches that travel together.
        row_bytes: size of one row, for the size of blocks and the memory in flight.
        notes: folder where decoders note what they read, so that a file that kills one is known; None: no notes.
        cache: where decoders keep copies of remote files.
    """

    decode_workers: int
    steps_per_block: int
    row_bytes: int
    notes: Path | None = None
    cache: Cache = DEFAULT_CACHE
