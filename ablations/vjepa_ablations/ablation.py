"""What an ablation is: a factor of the recipe, its levels, and the promise to change nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vjepa_exp.spec.base import Spec
from vjepa_exp.spec.experiment import Recipe

Levels = dict[str, Recipe]
"""Name of a level -> the recipe at that level."""


@dataclass(frozen=True)
class Ablation:
    """A factor; calling it with a base recipe gives the recipe of every level."""

    levels: Callable[[Recipe], Levels]
    fields: tuple[str, ...]
    """Dotted recipe fields that the factor owns."""
    description: str

    def __call__(self, base: Recipe) -> Levels:
        """The levels of the factor.

        Raises:
            ValueError: the base recipe does not suit the factor.
        """
        levels = self.levels(base)
        for name, recipe in levels.items():
            assert _without(recipe, self.fields) == _without(base, self.fields), (
                f"level '{name}' changes more than {', '.join(self.fields)}"
            )
        return levels


def ablation(*fields: str) -> Callable[[Callable[[Recipe], Levels]], Ablation]:
    """Make a function from a recipe to its levels the ablation that owns `fields`."""

    def decorate(function: Callable[[Recipe], Levels]) -> Ablation:
        return Ablation(function, fields, (function.__doc__ or "").partition("\n")[0])

    return decorate


def with_field(recipe: Recipe, field: str, value: Spec | tuple[Spec, ...] | str | float | int) -> Recipe:
    """A validated copy of the recipe with another value in a dotted field.

    Raises:
        ValueError: the recipe is not valid with that value.
    """
    data = recipe.to_json()
    *parents, last = field.split(".")
    inside = data
    for key in parents:
        inside = inside[key]
    inside[last] = _json(value)
    return Recipe.model_validate_json(json.dumps(data))


def _json(value: Spec | tuple[Spec, ...] | str | float | int) -> Any:
    if isinstance(value, tuple):
        return [item.to_json() for item in value]
    return value.to_json() if isinstance(value, Spec) else value


def _without(recipe: Recipe, fields: tuple[str, ...]) -> dict[str, Any]:
    data = recipe.to_json()
    for field in fields:
        *parents, last = field.split(".")
        inside = data
        for key in parents:
            inside = inside[key]
        del inside[last]
    return data
