"""One stage as work for other processes: everything it needs, and what it leaves."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vjepa_exp.data.cache import Cache
from vjepa_exp.graph.stage import Stage
from vjepa_exp.runtime.rows import Rows, StreamOptions
from vjepa_exp.runtime.slots import Slots
from vjepa_exp.spec.execution import ExecutionSpec

if TYPE_CHECKING:
    from vjepa_exp.train.world import World

CHECKPOINT = "checkpoint"
DECODING = "decoding"
PROGRESS_EVERY_S = 0.5


@dataclass(frozen=True)
class StageJob:
    """A stage that is to be done.

    Attributes:
        stage: what to do.
        label: what people call it.
        folder: where its files go, absolute.
        scratch: where Ray keeps what it needs meanwhile; on a cluster a place that all machines see.
        manifests: data set -> manifest.
        removals: digest -> removal list, for every list that the plan uses.
        checkpoint: of the pretraining that a probe stands on, None for a random encoder.
        execution: how to do it.
        slots: its share of the machine.
        before: phases of the run that this stage had to wait for, and their seconds.
        features: where features of clips that are not augmented are kept, None where they are not.
        beside: other stages that share its pass of the encoder, and its time.
        ready: when (seconds since 1970) nothing but its own start was left to wait for.
        lost_since: when its last checkpoint was written, where workers that went on from there were lost; None: none
            were.
    """

    stage: Stage
    label: str
    folder: Path
    scratch: Path
    manifests: dict[str, Path]
    removals: dict[str, Path]
    checkpoint: Path | None
    execution: ExecutionSpec
    slots: Slots
    before: dict[str, float] = field(default_factory=dict)
    features: Path | None = None
    beside: int = 0
    ready: float | None = None
    lost_since: float | None = None

    def rows(self, num_positions: int, batch_size: int, world: World) -> Rows:
        """What a worker reads when `num_positions` are read once, in batches of `batch_size` over all workers."""
        return Rows.epochs(num_positions, 1, batch_size, world.rank, world.size)

    def stream_options(self, row_bytes: int) -> StreamOptions:
        """How rows of this size travel."""
        steps = self.execution.steps_per_block
        notes, cache = self.folder / DECODING, Cache.of(self.execution)
        return StreamOptions(self.slots.decode_workers, steps, row_bytes, notes, cache)


@dataclass(frozen=True)
class Outcome:
    """What a finished stage yields for its record."""

    metrics: dict[str, float]
    coverage: dict[str, int]
    files: list[str]
    unreadable: dict[str, dict[str, int]] = field(default_factory=dict)
    """Data set -> kind of reason -> videos."""


class NodeLeaving(Exception):  # noqa: N818 (no error)
    """The workers of a stage were asked to leave, and did so with a checkpoint: no failure of theirs."""


@dataclass(frozen=True)
class Failure:
    """Why a stage failed, in one line, and the file that says all of it if it could be written."""

    reason: str
    log: Path | None = None

    def __str__(self) -> str:
        return f"{self.reason} (log: {self.log})" if self.log else self.reason


class Throttle:
    """Says yes at most every `interval` seconds."""

    def __init__(self, interval: float = PROGRESS_EVERY_S) -> None:
        self._interval, self._last = interval, 0.0

    def __call__(self) -> bool:
        """Whether it is time again."""
        now = time.monotonic()
        if now - self._last < self._interval:
            return False
        self._last = now
        return True


def manifest_name(dataset: str) -> str:
    """File of a demo set's manifest in the folder of its data stage."""
    return f"{dataset}.parquet"
