"""The networks: x-encoder / y-encoder (one architecture) and predictor (paper section 3.4 and Table 8)."""

from __future__ import annotations

from typing import Annotated, Literal, Self, cast

from pydantic import Field, model_validator

from vjepa_exp.spec.base import PositiveInt, Spec
from vjepa_models.archs import ARCHS, Arch


class PredictorSpec(Spec):
    """A narrow transformer that predicts target features from context features and mask tokens."""

    depth: PositiveInt = 12
    embed_dim: PositiveInt = 384
    num_heads: PositiveInt | None = Field(None, description="None: as many as the encoder (released models).")


class ModelSpec(Spec):
    """Encoder and predictor. `arch: custom` takes its four sizes from the fields below; a named one fixes them."""

    arch: Literal["vit_tiny", "vit_small", "vit_base", "vit_large", "vit_huge", "vit_giant", "custom"] = "vit_large"
    embed_dim: PositiveInt | None = None
    depth: PositiveInt | None = None
    num_heads: PositiveInt | None = None
    mlp_ratio: Annotated[float, Field(gt=0, le=100)] | None = None
    patch_size: PositiveInt = 16
    tubelet_size: PositiveInt = 2
    uniform_power: bool = Field(True, description="Position table split in three equal parts (all released models).")
    predictor: PredictorSpec = PredictorSpec()

    @model_validator(mode="after")
    def _sizes(self) -> Self:
        given = {k: getattr(self, k) for k in ("embed_dim", "depth", "num_heads", "mlp_ratio")}
        if self.arch == "custom":
            missing = [k for k, v in given.items() if v is None]
            if missing:
                raise ValueError(f"arch 'custom' needs {', '.join(missing)}")
        elif any(v is not None for v in given.values()):
            extra = ", ".join(k for k, v in given.items() if v is not None)
            raise ValueError(f"arch '{self.arch}' fixes {extra}; write 'arch: custom' to choose sizes freely")
        self._check_heads("encoder", self.encoder.embed_dim, self.encoder.num_heads)
        self._check_heads("predictor", self.predictor.embed_dim, self.predictor_heads)
        if self.encoder.embed_dim % 4 or self.predictor.embed_dim % 4:
            raise ValueError("embed_dim must be divisible by 4 for the sin-cos position table")
        return self

    @staticmethod
    def _check_heads(which: str, width: int, heads: int) -> None:
        if width % heads:
            raise ValueError(f"{which} embed_dim {width} is not divisible by its {heads} heads")

    @property
    def encoder(self) -> Arch:
        """Width, depth, heads and MLP ratio of the encoder."""
        if self.arch != "custom":
            return ARCHS[self.arch]
        sizes = (self.embed_dim, self.depth, self.num_heads, self.mlp_ratio)
        return Arch(*cast("tuple[int, int, int, float]", sizes))  # present: checked by _sizes

    @property
    def predictor_heads(self) -> int:
        """Heads of the predictor; the released models use the encoder's (method fact 2.3)."""
        return self.predictor.num_heads or self.encoder.num_heads
