"""What an ablation is: a factor of the recipe, its levels, and the promise to change nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from vjepa_exp.spec.base import Spec
from vjepa_exp.spec.experiment import Recipe
from vjepa_exp.spec.problems import nearest

Level = tuple[str, Recipe]
"""Name of a level and the recipe at that level."""
Value = Spec | tuple[Spec, ...] | str | float | int


@dataclass(frozen=True)
class Ablation:
    """A factor; calling it with a base recipe gives the recipe of every level."""

    levels: Callable[[Recipe], Iterable[Level]]
    fields: tuple[str, ...]
    """Dotted recipe fields that the factor owns; `*` stands for every name, as in `evaluate.*.clips`."""
    description: str

    @property
    def where(self) -> str:
        """File and line of the factor."""
        code = self.levels.__code__
        return f"{code.co_filename}:{code.co_firstlineno}"

    def __call__(self, base: Recipe) -> dict[str, Recipe]:
        """The levels of the factor.

        Raises:
            ValueError: the base recipe does not suit the factor, or two levels have one name.
            AssertionError: a level changes a field that the factor does not own.
        """
        levels = dict[str, Recipe]()
        for name, recipe in self.levels(base):
            if name in levels:
                raise ValueError(f"two levels are called '{name}'")
            changed = [field for field in changes(base, recipe) if not any(_owns(own, field) for own in self.fields)]
            assert not changed, f"level '{name}' changes {', '.join(changed)}, not only {', '.join(self.fields)}"
            levels[name] = recipe
        return levels


def ablation(*fields: str) -> Callable[[Callable[[Recipe], Iterable[Level]]], Ablation]:
    """Make a function from a recipe to its levels the ablation that owns `fields`."""

    def decorate(function: Callable[[Recipe], Iterable[Level]]) -> Ablation:
        return Ablation(function, fields, (function.__doc__ or "").partition("\n")[0])

    return decorate


def with_fields(recipe: Recipe, values: dict[str, Value]) -> Recipe:
    """A validated copy of the recipe with other values in dotted fields; `*` stands for every name.

    Raises:
        ValueError: there is no such field, or the recipe is not valid with these values.
    """
    data = recipe.to_json()
    for field, value in values.items():
        _put(data, field.split("."), _json(value), field)
    try:
        return Recipe.model_validate_json(json.dumps(data))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        message = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {message}".removeprefix(": ")) from None


def with_field(recipe: Recipe, field: str, value: Value) -> Recipe:
    """`with_fields` for one field."""
    return with_fields(recipe, {field: value})


def changes(base: Recipe, other: Recipe) -> list[str]:
    """Dotted fields in which two recipes differ."""
    return _differences(base.to_json(), other.to_json(), "")


def _differences(a: Any, b: Any, path: str) -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict) and a.get("kind") == b.get("kind"):
        keys = dict.fromkeys([*a, *b])
        return [d for key in keys for d in _differences(a.get(key), b.get(key), f"{path}.{key}" if path else str(key))]
    return [] if a == b else [path]


def _owns(own: str, field: str) -> bool:
    """Whether a changed field is the owned one or lies in it."""
    parts, inside = own.split("."), field.split(".")
    return len(parts) <= len(inside) and all(p in ("*", i) for p, i in zip(parts, inside, strict=False))


def _put(data: Any, keys: list[str], value: Any, field: str) -> None:
    key, *rest = keys
    if key == "*":
        for name in data:
            _put(data, [name, *rest], value, field)
    elif not isinstance(data, dict) or key not in data:
        known = list(data) if isinstance(data, dict) else []
        raise ValueError(f"there is no field '{field}' in this recipe.{nearest(key, known)}")
    elif rest:
        _put(data[key], rest, value, field)
    else:
        data[key] = value


def _json(value: Value) -> Any:
    if isinstance(value, tuple):
        return [item.to_json() for item in value]
    return value.to_json() if isinstance(value, Spec) else value
