"""Sizes of data sets, as far as they are known without opening a manifest."""

from __future__ import annotations

from typing import NamedTuple

from vjepa_exp.graph.demo import FAMILIES
from vjepa_exp.spec.datasets import Registry


class DatasetSize(NamedTuple):
    """Videos or images per split, and classes."""

    train: int
    val: int
    classes: int


PAPER_SIZES: dict[str, DatasetSize] = {
    "k400": DatasetSize(240_000, 20_000, 400),
    "k600": DatasetSize(390_000, 30_000, 600),
    "k700": DatasetSize(530_000, 35_000, 700),
    "k710": DatasetSize(658_000, 67_000, 710),
    "ssv2": DatasetSize(169_000, 25_000, 174),
    "in1k": DatasetSize(1_281_000, 50_000, 1000),
    "places205": DatasetSize(2_449_000, 20_500, 205),
    "inat21": DatasetSize(2_687_000, 100_000, 10_000),
}
"""Rounded sizes of the paper's evaluation sets as published; copies at hand differ as videos disappear."""

PAPER_IMAGES = frozenset({"in1k", "places205", "inat21"})


def holds_images(name: str, registry: Registry) -> bool:
    """Whether a data set holds images: as registered, else as the paper's set of that name."""
    return registry.kind(name) == "image" if registry.has(name) else name in PAPER_IMAGES


def dataset_size(name: str, registry: Registry) -> DatasetSize | None:
    """Size of a data set; None where only its manifest would tell."""
    if not registry.has(name) or (family := registry.demo_family(name)) is None:
        return PAPER_SIZES.get(name)
    spec = FAMILIES[family]
    if registry.kind(name) == "image":
        return DatasetSize(spec.num_train_stills, spec.num_val_stills, spec.num_classes)
    return DatasetSize(spec.num_train, spec.num_val, spec.num_classes)
