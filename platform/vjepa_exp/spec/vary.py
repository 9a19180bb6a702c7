"""What differs between the variants of a study: a factor of `ablations/`, axes written in YAML, or a search space."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from vjepa_exp.spec.base import Name, NonNegativeInt, PositiveFloat, PositiveInt, Spec

FACTOR = r"^[a-z_0-9]+\.[a-z_0-9]+$"


class LogUniform(Spec):
    """A number drawn so that each factor of ten is equally likely."""

    kind: Literal["loguniform"]
    low: PositiveFloat
    high: PositiveFloat

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}")
        return self


class Choice(Spec):
    """One of these values, drawn with equal chances."""

    kind: Literal["choice"]
    values: tuple[Any, ...] = Field(min_length=1)


class Grid(Spec):
    """Each of these values; several grids are crossed, and every crossing takes `num_samples` draws of the rest."""

    kind: Literal["grid"]
    values: tuple[Any, ...] = Field(min_length=1)


Distribution = Annotated[LogUniform | Choice | Grid, Field(discriminator="kind")]


class Search(Spec):
    """A search space over recipe fields; draws are a pure function of its seed, so it is planned like the rest."""

    space: dict[str, Distribution] = Field(min_length=1, description="Dotted recipe field -> where values come from.")
    num_samples: PositiveInt = 1
    seed: NonNegativeInt = 0


class Vary(Spec):
    """What differs between variants."""

    ablation: Annotated[str, Field(pattern=FACTOR)] | None = Field(
        None, description="Levels from a function in ablations/, written file.function."
    )
    axes: dict[str, dict[Name, Any]] = Field(
        {}, description="Per axis a dotted recipe field and named values for it; several axes are crossed."
    )
    search: Search | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.ablation is not None) + bool(self.axes) + (self.search is not None) != 1:
            raise ValueError("vary: give one of 'ablation', 'axes' and 'search'")
        return self
