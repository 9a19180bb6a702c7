"""The settings of the demo data, apart from its generator, so that planning needs neither torch nor numpy."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vjepa_exp.graph.stage import digest
from vjepa_exp.spec.base import NonNegativeInt, PositiveInt, Spec
from vjepa_exp.spec.datasets import Family


class DemoSpec(Spec):
    """One family of demo data: clips that carry an appearance and a motion label, and stills of such sprites."""

    version: str = "3"
    """Raised with every change of the generator that changes a pixel."""
    seed: NonNegativeInt = 0
    num_train: PositiveInt = 640
    num_val: PositiveInt = 320
    num_train_stills: PositiveInt = 512
    num_val_stills: PositiveInt = 256
    num_classes: PositiveInt = 8
    num_frames: PositiveInt = 24
    fps: PositiveInt = 12
    resolution: PositiveInt = 64

    @property
    def digest(self) -> str:
        """Identity of the data: everything that decides its content."""
        return digest(self.model_dump())


FAMILIES: Mapping[Family, DemoSpec] = MappingProxyType(
    {
        "demo": DemoSpec(),
        "tiny": DemoSpec(num_train=64, num_val=32, num_train_stills=32, num_val_stills=32, num_frames=16),
    }
)
"""`demo` is learnt from; `tiny` is a rehearsal of it in seconds."""
