"""A stage: one unit of work, identified by its recipe and by what goes into it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

from vjepa_exp.spec.stages import StageRecipe

FORMAT: Final = 1
"""Version of fingerprints and records; raised when the same recipe starts to mean other numbers."""

Kind = Literal["data", "pretrain", "probe", "finetune", "detect", "released"]
LEVELS: Mapping[Kind, int] = {"data": 0, "pretrain": 1, "probe": 2, "finetune": 2, "detect": 2, "released": 2}
"""Kinds of stages in the order of work: a stage's inputs are of earlier levels."""
NOT_BUILT: Mapping[Kind, str] = {
    "finetune": "end-to-end fine-tuning is not built yet",
    "detect": "detection heads on boxes are not built yet",
    "released": "models of others cannot be loaded yet",
}
"""Kinds that are planned and costed but that nothing can run, and why."""


@dataclass(frozen=True)
class Stage:
    """A node of the graph. Two stages with one fingerprint are one stage, whatever study they come from."""

    kind: Kind
    name: str
    recipe: StageRecipe
    inputs: tuple[Stage, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the format, the recipe and the inputs' fingerprints; the name does not enter."""
        inputs = sorted(stage.fingerprint for stage in self.inputs)
        return digest({"format": FORMAT, "recipe": self.recipe.model_dump(), "inputs": inputs})

    @property
    def id(self) -> str:
        """The stage's folder in the store: `<kind>-<name>-<first 8 digits of the fingerprint>`."""
        return f"{self.kind}-{self.name}-{self.fingerprint[:8]}"

    @property
    def level(self) -> int:
        """0 data, 1 pretrain, 2 what stands on an encoder: stages of one level do not need each other."""
        return LEVELS[self.kind]

    def input(self, kind: Kind) -> Stage | None:
        """The input of a kind, None where there is none (a random encoder has no `pretrain` input)."""
        return next((stage for stage in self.inputs if stage.kind == kind), None)


def digest(value: object) -> str:
    """SHA-256 (hex) of a value's canonical JSON: sorted keys, no spaces, shortest round-trip floats.

    Raises:
        TypeError: the value holds something that JSON has no stable form for.
        ValueError: the value holds an infinite number or NaN.
    """
    text = json.dumps(_plain(value, "value"), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: object, where: str) -> object:
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{where}: the key {key!r} is no string and has no stable form")
        return {key: _plain(inner, f"{where}.{key}") for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [_plain(inner, f"{where}.{i}") for i, inner in enumerate(value)]
    raise TypeError(f"{where}: {type(value).__name__} has no stable form")
