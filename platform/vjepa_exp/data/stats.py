"""What a data set is made of, from its manifest alone: durations, rates, sizes, classes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vjepa_exp.data.manifest import SPLITS, UNLABELLED, Manifest, Split

Numbers = npt.NDArray[Any]
QUANTILES = {"least": 0.0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "most": 1.0}


@dataclass(frozen=True)
class Stats:
    """Numbers of the readable files, [n] each in the order of the manifest; images have no duration, rate and bitrate.

    Attributes:
        measures: name with unit -> values; a video of unknown rate counts in those that need none.
        sizes: 'width x height' -> files, the most frequent first.
        rates: frames per second, rounded to hundredths -> videos, the most frequent first.
        labels: files of each class, [classes], by split; a split without labels has none.
        unlabelled: readable files without a class.
    """

    measures: dict[str, Numbers]
    sizes: dict[str, int]
    rates: dict[float, int]
    labels: dict[Split, Numbers]
    unlabelled: int

    def quantiles(self) -> dict[str, list[float]]:
        """Measure -> its `QUANTILES` and its mean."""
        return {
            name: [*np.quantile(values, list(QUANTILES.values())).tolist(), float(values.mean())]
            for name, values in self.measures.items()
            if len(values)
        }


def stats(manifest: Manifest) -> Stats:
    """Look at the readable files of a manifest."""
    files = manifest.decodable()
    column = {name: files.column(name) for name in ("frames", "fps", "width", "height", "bytes", "label")}
    video = ~files.images()
    timed = video & (column["fps"] > 0)
    seconds = column["frames"][timed] / column["fps"][timed].astype(np.float64)
    measures = {
        "duration (s)": seconds,
        "frames": column["frames"][video],
        "frames per second": column["fps"][timed].astype(np.float64),
        "short side (pixels)": np.minimum(column["width"], column["height"]),
        "size (MiB)": column["bytes"] / 2**20,
        "bitrate (Mbit/s)": column["bytes"][timed] * 8e-6 / np.maximum(seconds, 1e-9),
    }
    sizes = Counter(zip(column["width"].tolist(), column["height"].tolist(), strict=True))
    rates = Counter(np.round(column["fps"][timed].astype(np.float64), 2).tolist())
    return Stats(
        measures={name: values for name, values in measures.items() if len(values)},
        sizes={f"{width} x {height}": count for (width, height), count in sizes.most_common()},
        rates=dict(rates.most_common()),
        labels=_labels(files),
        unlabelled=int((column["label"] == UNLABELLED).sum()),
    )


def _labels(files: Manifest) -> dict[Split, Numbers]:
    counts = {}
    for split in SPLITS:
        label = files.subset(split).column("label")
        label = label[label != UNLABELLED]
        if len(label):
            counts[split] = np.bincount(label, minlength=len(files.classes))
    return counts
