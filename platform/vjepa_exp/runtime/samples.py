"""Which samples a pretraining has seen: a digest of every step, the same for any workers and after any restart.

Two runs trained on the same clips in the same order exactly where their files are equal; the first difference names the
step. The file holds one little-endian uint64 a step, 0 where it was not noted:
`numpy.fromfile(folder / "samples.u64", "<u8")`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path

import numpy as np

from vjepa_exp.runtime.stream import Batch
from vjepa_exp.train.world import World

SAMPLES = "samples.u64"


class SampleLog:
    """Notes what each step of this worker trains on; `keep` writes it down for all of them.

    Args:
        folder: of the stage.
        world: this worker among its equals.
        step: the step that training continues from; what the file says of later ones is dropped.
    """

    def __init__(self, folder: Path, world: World, step: int) -> None:
        self._path, self._world, self._kept = folder / SAMPLES, world, step
        self._new: list[np.uint64] = []

    def watch(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches themselves, one for each step."""
        for batch in batches:
            self._new.append(digest(batch))
            yield batch

    def keep(self, step: int) -> None:
        """Write the steps up to this one; call it on every worker, before the checkpoint of the step."""
        count = step - self._kept
        parts = self._world.gather(np.asarray(self._new[:count], dtype="<u8"))
        if self._world.rank == 0:
            with self._path.open("r+b" if self._path.exists() else "w+b") as file:
                file.truncate(8 * self._kept)
                file.seek(0, os.SEEK_END)
                file.write(np.sum(parts, axis=0, dtype="<u8").tobytes())
                file.flush()
                os.fsync(file.fileno())
        del self._new[:count]
        self._kept = step


def digest(batch: Batch) -> np.uint64:
    """Of the clips that stand at the positions of a batch; digests of parts of a batch add up to that of the batch."""
    rows = np.stack([batch["position"], batch["sample"]], axis=1).astype("<i8")
    digests = [int.from_bytes(blake2b(row.tobytes(), digest_size=8).digest(), "little") for row in rows]
    return np.uint64(sum(digests) % 2**64)
