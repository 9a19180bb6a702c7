"""Which tokens are context and which are targets (paper section 3.2; method facts section 4)."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from vjepa_exp.spec.base import Fraction, PositiveFloat, PositiveInt, Spec


class MultiBlockMask(Spec):
    """Targets are the union of `num_blocks` boxes; `max_temporal_keep` below 1 makes it causal (Table 4)."""

    kind: Literal["multi_block"]
    num_blocks: PositiveInt
    spatial_scale: tuple[Fraction, Fraction] = Field(description="Share of a frame that one block covers.")
    temporal_scale: tuple[Fraction, Fraction] = (1.0, 1.0)
    aspect_ratio: tuple[PositiveFloat, PositiveFloat] = (0.75, 1.5)
    max_temporal_keep: Fraction = Field(1.0, description="Context only from this first share of the clip.")
    max_keep: PositiveInt | None = Field(None, description="At most so many context tokens.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in ("spatial_scale", "temporal_scale", "aspect_ratio"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: the lower bound {low} is above the upper bound {high}")
        return self

    def leaves_nothing(self, grid: tuple[int, int, int]) -> bool:
        """Whether some draw makes one block as large as all that the encoder may see of a token grid (T', H', W')."""
        num_steps, height, width = grid
        area = int(height * width * self.spatial_scale[1])
        low, high = self.aspect_ratio  # a block is round(sqrt(area * aspect)) high and round(sqrt(area / aspect)) wide
        fills_frame = max(low, (height - 0.5) ** 2 / area) <= min(high, area / (width - 0.5) ** 2) if area else False
        visible_steps = max(1, int(num_steps * self.max_temporal_keep))
        return fills_frame and max(1, int(num_steps * self.temporal_scale[1])) >= visible_steps


class RandomTubeMask(Spec):
    """Targets are `ratio` of the spatial cells, the same cells in every frame."""

    kind: Literal["random_tube"]
    ratio: Annotated[float, Field(gt=0, lt=1)]


MaskSpec = Annotated[MultiBlockMask | RandomTubeMask, Field(discriminator="kind")]

PAPER_MASKS: tuple[MultiBlockMask, ...] = (
    MultiBlockMask(kind="multi_block", num_blocks=8, spatial_scale=(0.15, 0.15)),
    MultiBlockMask(kind="multi_block", num_blocks=2, spatial_scale=(0.7, 0.7)),
)
"""Short-range and long-range masks of every released model."""
