"""The named encoder sizes, as pure data (no torch import)."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Arch:
    """Width, depth, attention heads and MLP ratio of a vision transformer."""

    embed_dim: int
    depth: int
    num_heads: int
    mlp_ratio: float

    @property
    def mlp_dim(self) -> int:
        """Hidden width of the MLP."""
        return int(self.embed_dim * self.mlp_ratio)


ARCHS: Mapping[str, Arch] = MappingProxyType(
    {
        "vit_tiny": Arch(192, 12, 3, 4.0),
        "vit_small": Arch(384, 12, 6, 4.0),
        "vit_base": Arch(768, 12, 12, 4.0),
        "vit_large": Arch(1024, 24, 16, 4.0),
        "vit_huge": Arch(1280, 32, 16, 4.0),
        "vit_giant": Arch(1408, 40, 16, 48 / 11),
    }
)
