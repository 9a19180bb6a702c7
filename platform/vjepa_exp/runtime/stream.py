"""From the global order to training: Ray Data decodes clips in actors and hands them over in exactly that order.

Which positions a worker reads at which step is arithmetic (`Rows`), so a stream starts at any step, and neither the
number of decoding processes nor a restart changes what a step sees. Each worker reads a data set of its own that it
makes when it knows the step it continues from: shares of unequal size are exact, and no coordinating process stands
between decoding and training (as it would with `streaming_split`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext, ExecutionOptions, ExecutionResources
from ray.data._internal.execution.execution_callback import ExecutionCallback

from vjepa_exp.data.cache import Cache, use_cache
from vjepa_exp.data.crash import keep_notes
from vjepa_exp.runtime.rows import Rows, StreamOptions
from vjepa_exp.runtime.segments import in_segments
from vjepa_exp.spec.errors import UserError

MAX_BLOCK_BYTES = 64 * 2**20
"""Blocks of several steps spare Ray's cost per block, but a larger one than this only takes memory."""
BLOCKS_IN_FLIGHT = 4
DECODER_RESTARTS = 20
"""Of one decoder in one segment: each file that kills it costs one."""
SEGMENT_BLOCKS = 500
"""Ray plans every block before the first one is decoded, about 2 ms each."""
SEGMENT_LEAD = 16
"""Blocks before the end of a segment at which the next one is planned; its decoders start when cores become free."""

PACE_S = 0.05
"""Pause of Ray Data's loop after each turn. It runs in the training process, and while decoded blocks wait for their
consumer it turns without one, which took four fifths of the interpreter and halved the speed of small models."""

STOPPED = "stopped"
"""Column of a block that holds an error of the user instead of rows."""

Block = dict[str, int]
"""The batches `first` to `stop` of a source by its number, or one of several `parts` of them."""
Batch = dict[str, Any]
"""Column -> array whose first axis counts rows."""


class Source(Protocol):
    """Rows by their position in the global order; cheap to pickle."""

    def load(self, positions: np.ndarray) -> Batch:
        """Columns for these positions (int64 [n]); `position` is one of them, every column has n rows."""


class _Pace(ExecutionCallback):
    """Leaves the interpreter to the trainer."""

    def on_execution_step(self, executor: Any) -> None:
        time.sleep(PACE_S)


@dataclass(frozen=True)
class Part:
    """A source, what a worker reads of it, how, and from which batch on."""

    source: Source
    rows: Rows
    options: StreamOptions
    first: int = 0


class _Decode:
    """Turns a block of batch numbers into decoded rows; lives in a decoding actor."""

    def __init__(
        self, sources: Sequence[ray.ObjectRef[Source]], rows: Sequence[Rows], notes: Path | None, cache: Cache
    ) -> None:
        self._shared, self._sources = sources, dict[int, Source]()
        self._rows = rows
        use_cache(cache)
        if notes:
            keep_notes(notes)

    def __call__(self, block: dict[str, np.ndarray]) -> Batch:
        names = ("source", "first", "stop", "part", "parts")
        number, first, stop, part, parts = (int(block[name][0]) for name in names)
        rows = self._rows[number]
        positions = np.concatenate([np.asarray(rows.positions(k), np.int64) for k in range(first, stop)])
        try:
            return self._source(number).load(np.array_split(positions, parts)[part])
        except UserError as error:  # as an exception it would lose its class in Ray Data, and print a traceback
            return {STOPPED: np.array([str(error)])}

    def _source(self, number: int) -> Source:
        if number not in self._sources:
            self._sources[number] = ray.get(self._shared[number])
        return self._sources[number]


def stream(source: Source, rows: Rows, options: StreamOptions, first: int = 0) -> Iterator[Batch]:
    """Batches `first`, `first + 1`, ... of a worker, decoded ahead of their use; a batch without rows is left out.

    Raises:
        UserError: of the source: what it needs is not to be had.
        RuntimeError: rows arrived out of order (a fault of this module or of Ray, never of the data).
    """
    [batches] = streams([Part(source, rows, options, first)])
    return batches


def streams(parts: Sequence[Part]) -> list[Iterator[Batch]]:
    """`stream` for each of several sources, one after the other by the same decoders, which take seconds to start.

    All of one is to be taken before the next one is begun. Their options differ in the size of a row alone.
    """
    decoded, last = _decoded(parts), [_last_batch(part) for part in parts]
    left = [number for number, batch in enumerate(last) if batch is not None]

    def batches(number: int, part: Part) -> Iterator[Batch]:
        if number in left and left[0] != number:
            raise RuntimeError(f"source {number} is read before all of source {left[0]} was taken")
        for at, batch in _reassemble(decoded, part.rows, _blocks(part, number)):
            if batch["position"].tolist() != list(part.rows.positions(at)):
                raise RuntimeError(f"batch {at} holds the rows {batch['position'].tolist()}, not those of its place")
            if at == last[number]:
                left.remove(number)
            yield batch
        if not left and next(decoded, None) is not None:  # at their end Ray lets the decoders go
            raise RuntimeError("more rows came than were asked for")

    return [batches(number, part) for number, part in enumerate(parts)]


def _last_batch(part: Part) -> int | None:
    """The last one that has rows for this worker."""
    return next((k for k in reversed(range(part.first, part.rows.num_batches)) if part.rows.positions(k)), None)


def _decoded(parts: Sequence[Part]) -> Iterator[Batch]:
    shared = [ray.put(part.source) for part in parts]  # one copy of a large manifest for all decoders of a machine
    blocks = chain.from_iterable(_blocks(part, number) for number, part in enumerate(parts))
    yield from in_segments(blocks, SEGMENT_BLOCKS, SEGMENT_LEAD, partial(_execute, shared, parts))


def _blocks(part: Part, number: int) -> Iterator[Block]:
    """Several batches to a block, or several blocks to a batch that is larger than a block may be."""
    rows, options = part.rows, part.options
    batch_bytes = max(1, -(-rows.batch_size // rows.world) * options.row_bytes)
    steps = min(options.steps_per_block, max(1, MAX_BLOCK_BYTES // batch_bytes))
    for start in range(part.first, rows.num_batches, steps):
        stop = min(start + steps, rows.num_batches)
        num_rows = sum(len(rows.positions(k)) for k in range(start, stop))
        pieces = min(num_rows, -(-num_rows * options.row_bytes // MAX_BLOCK_BYTES))
        for piece in range(pieces):
            yield {"source": number, "first": start, "stop": stop, "part": piece, "parts": pieces}


def _execute(shared: list[ray.ObjectRef[Source]], parts: Sequence[Part], blocks: list[Block]) -> Iterator[Batch]:
    options = parts[0].options
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.custom_execution_callback_classes = [_Pace]
    context.target_max_block_size = None  # a block that Ray splits would break the order of batches
    context.execution_options = ExecutionOptions(
        preserve_order=True,
        resource_limits=ExecutionResources.for_limits(
            cpu=options.decode_workers,
            object_store_memory=float(MAX_BLOCK_BYTES * (BLOCKS_IN_FLIGHT + options.decode_workers)),
        ),
    )
    decoded = ray.data.from_items(blocks, override_num_blocks=len(blocks)).map_batches(
        _Decode,
        fn_constructor_args=(shared, [part.rows for part in parts], options.notes, options.cache),
        batch_size=None,
        compute=ActorPoolStrategy(size=options.decode_workers),
        num_cpus=1,
        max_restarts=DECODER_RESTARTS,
        max_task_retries=DECODER_RESTARTS,
    )
    for batch in decoded.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=1):
        if STOPPED in batch:
            raise UserError(str(batch[STOPPED][0]))
        yield batch  # type: ignore[misc]


def _reassemble(decoded: Iterator[Batch], rows: Rows, blocks: Iterable[Block]) -> Iterator[tuple[int, Batch]]:
    pieces: list[Batch] = []
    for block, columns in zip(blocks, decoded, strict=False):  # others' blocks may follow
        pieces.append(columns)
        if block["part"] + 1 < block["parts"]:
            continue
        whole = columns if len(pieces) == 1 else {k: np.concatenate([p[k] for p in pieces]) for k in columns}
        pieces, start = [], 0
        for number in range(block["first"], block["stop"]):
            stop = start + len(rows.positions(number))
            if stop > start:
                yield number, {name: values[start:stop] for name, values in whole.items()}
            start = stop
