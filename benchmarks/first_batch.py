"""How long until the first batch: from the start of a run, and from a restart at step 1 000 000. It must not grow.

    python benchmarks/first_batch.py                 # real clips of the tiny demo set through Ray Data, in turn
    python benchmarks/first_batch.py --step 10000000 --repeats 9

Ray runs already (what its start takes is in `restart.py`). Each measurement begins with the manifest on disk and ends
with the first batch in the training process; starts at step 0 and at the late step take turns, so that a busy machine
slows both. Memory is the resident size that this process gained on the way, at its highest.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vjepa_exp.runtime.environment import prepare

# Ray reads its environment when it is imported:
# ruff: noqa: E402
prepare(None, verbose=False)

import psutil

from vjepa_exp.data.demo import make_demo
from vjepa_exp.data.guard import each_locally
from vjepa_exp.data.index import index
from vjepa_exp.data.manifest import read_entries, write_manifest
from vjepa_exp.data.source import PretrainSource
from vjepa_exp.graph.demo import FAMILIES
from vjepa_exp.runtime.rows import Rows, StreamOptions
from vjepa_exp.runtime.session import ray_session
from vjepa_exp.runtime.stream import stream
from vjepa_exp.spec.data import ClipSpec, DataSpec, MixtureEntry

BATCH = 16
BATCHES_READ = 3
MIB = 2**20


@dataclass(frozen=True)
class Measured:
    """One start."""

    seconds: float
    mib: float


@contextmanager
def peak_of(process: psutil.Process, peak: list[float]) -> Iterator[None]:
    """Appends the highest resident size that was seen inside the block, in bytes."""
    done, highest = threading.Event(), [process.memory_info().rss]

    def look() -> None:
        while not done.wait(0.02):
            highest.append(process.memory_info().rss)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        peak.append(max(highest))


def start(manifest: Path, step: int) -> Measured:
    """A worker's way to its first batch after `step` steps."""
    process, peak = psutil.Process(), list[float]()
    before = process.memory_info().rss
    data = DataSpec(mixture=(MixtureEntry(dataset="tiny"),), clip=ClipSpec(num_frames=8, frame_step=2, resolution=48))
    with peak_of(process, peak):
        begun = time.perf_counter()
        source = PretrainSource([(read_entries(manifest, "train"), None)], data, seed=0)
        rows = Rows(BATCH, step + 100_000)
        batches = stream(source, rows, StreamOptions(1, 4, source.row_bytes), first=step)
        assert next(batches)["position"][0] == step * BATCH
        seconds = time.perf_counter() - begun
        for _, _ in zip(range(BATCHES_READ - 1), batches, strict=False):
            pass
    batches.close()  # type: ignore[attr-defined]
    return Measured(seconds, (peak[0] - before) / MIB)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ray_session(None, cpus=4, gpus=0):
        root = Path(folder)
        make_demo(root / "tiny", FAMILIES["tiny"], 1, lambda done, total: None)
        each = partial(each_locally, processes=1, deadline_s=120.0)
        write_manifest(index(root / "tiny" / "demo_motion.csv", each=each), root / "tiny.parquet")
        start(root / "tiny.parquet", 0)  # what is imported and started once
        runs: dict[int, list[Measured]] = {0: [], arguments.step: []}
        for _ in range(arguments.repeats):
            for step, measured in runs.items():
                measured.append(start(root / "tiny.parquet", step))
    medians = {step: statistics.median(one.seconds for one in measured) for step, measured in runs.items()}
    for step, measured in runs.items():
        spread = ", ".join(f"{one.seconds:.2f}" for one in measured)
        memory = statistics.median(one.mib for one in measured)
        print(f"first batch from step {step:>9}: {medians[step]:.2f} s ({spread}), {memory:+.0f} MiB")
    print(f"ratio late / early: {medians[arguments.step] / medians[0]:.2f}")


if __name__ == "__main__":
    main()
