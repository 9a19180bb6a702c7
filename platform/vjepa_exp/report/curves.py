"""Curves of a stage, read from the journal `metrics.jsonl` in its folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Curve:
    """One quantity over steps."""

    steps: tuple[int, ...]
    values: tuple[float, ...]


def read_curve(journal: Path, key: str) -> Curve | None:
    """The values of `key`; None where the journal or the key is missing.

    A resumed stage writes some steps twice: the last value counts. A half-written last line (the process was killed) is
    left out.
    """
    points: dict[int, float] = {}
    if not journal.is_file():
        return None
    for line in journal.read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.endswith("\n"):
            continue
        entry = json.loads(line)
        if key in entry:
            points[entry["step"]] = entry[key]
    steps = tuple(sorted(points))
    return Curve(steps, tuple(points[step] for step in steps)) if steps else None
