"""The base of every spec: unknown keys are errors, types are strict, objects are frozen."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


class Spec(BaseModel):
    """A validated, frozen value; YAML is its written form."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    def to_json(self) -> dict[str, Any]:
        """The spec as JSON data, every field written out."""
        return self.model_dump(mode="json")


PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(gt=0, le=1)]
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$"
Name = Annotated[str, Field(pattern=NAME, max_length=80)]
"""A name that is also a safe file name: letters, digits, '_', '.', '-'."""
