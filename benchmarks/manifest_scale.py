"""Seconds and memory that a manifest of millions of rows takes: written, read, laid out as the order of a run.

    python benchmarks/manifest_scale.py                  # 2 million rows, as many videos as VideoMix2M has
    python benchmarks/manifest_scale.py --rows 200000

Rows are made up, with paths as those of Kinetics, Something-Something and HowTo100M; no file is opened. Each part is a
process of its own; memory is its peak, with what the imports alone take (PyTorch, decoders, Arrow) beside it.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from vjepa_exp.data.manifest import Manifest, read_entries, write_manifest
from vjepa_exp.data.source import PretrainSource
from vjepa_exp.spec.data import DataSpec, MixtureEntry

MIB = 1024  # KiB, the unit of ru_maxrss on Linux
STEP, BATCH = 10**6, 3072


def peak_mib() -> int:
    """Most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // MIB


def make(rows: int) -> Manifest:
    """A made-up manifest: a twentieth of it val, a thousandth unreadable."""
    rng = np.random.default_rng(0)
    names = [f"{number:011x}" for number in rng.integers(0, 16**11, rows).tolist()]
    shapes = ["k710/train/class_{1:03d}/{0}_000012_000022.mp4", "ssv2/{1}{0:.6}.webm", "howto100m/{0}.mp4"]
    which = rng.choice(3, rows, p=[0.35, 0.09, 0.56]).tolist()
    bad = rng.random(rows) < 1e-3
    columns = {
        "path": pa.array(
            [shapes[w].format(name, i % 700) for i, (w, name) in enumerate(zip(which, names, strict=True))]
        ),
        "label": np.arange(rows) % 700,
        "split": pa.array(np.where(rng.random(rows) < 0.05, "val", "train")),
        "frames": rng.integers(48, 300, rows),
        "fps": np.full(rows, 25.0),
        "width": np.full(rows, 340),
        "height": np.full(rows, 256),
        "codec": pa.array(np.full(rows, "h264")),
        "bytes": rng.integers(1 << 18, 1 << 20, rows),
        "decodable": ~bad,
        "reason": pa.array(np.where(bad, "open: Invalid data found when processing input", "")),
        "readers": pa.array(np.where(bad, "", "pyav,decord,torchcodec")),
    }
    return Manifest.from_columns(columns, Path("/data"), tuple(map(str, range(700))))


def write(path: Path, rows: int) -> dict[str, float]:
    """Make and write a manifest."""
    manifest = make(rows)
    begun = time.perf_counter()
    write_manifest(manifest, path)
    return {"write_s": time.perf_counter() - begun, "file_mib": path.stat().st_size / 2**20}


def read(path: Path) -> dict[str, float]:
    """Read it as a pretraining stage does and look a late batch up."""
    imports = peak_mib()
    begun = time.perf_counter()
    manifest = read_entries(path, "train")
    have_read = time.perf_counter()
    source = PretrainSource([(manifest, None)], DataSpec(mixture=(MixtureEntry(dataset="bench"),)), seed=0)
    laid_out = time.perf_counter()
    entries = source.entries(np.arange(STEP * BATCH, (STEP + 1) * BATCH))
    assert len({entry.path for entry in entries}) > 0.99 * BATCH
    return {
        "read_s": have_read - begun,
        "lay_out_s": laid_out - have_read,
        "batch_s": time.perf_counter() - laid_out,
        "imports_mib": imports,
        "peak_mib": peak_mib(),
    }


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--part", choices=("write", "read"), help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        print(json.dumps(write(args.file, args.rows) if args.part == "write" else read(args.file)))
        return
    figures: dict[str, float] = {"rows": args.rows}
    with tempfile.TemporaryDirectory() as folder:
        for part in ("write", "read"):
            command = [sys.executable, __file__, "--part", part, "--file", f"{folder}/m.parquet"]
            done = subprocess.run([*command, "--rows", str(args.rows)], stdout=subprocess.PIPE, check=True)
            figures |= json.loads(done.stdout)
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
