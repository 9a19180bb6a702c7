"""The journal of a stage: its metrics by step, one JSON object a line, in the stage's folder.

What was measured is first of all here; MLflow and the figures read it from here. So a tracking server that is away
loses nothing, and no training process talks to one.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

JOURNAL = "metrics.jsonl"

Row = dict[str, float]
"""`step`, `time` (seconds since 1970) and the metrics of that step."""


class Journal:
    """Appends to the journal of one stage; rows of steps that are about to be done again are dropped.

    Args:
        path: the file.
        step: the last step that counts (that of the checkpoint which training continues from, 0 for none).
    """

    def __init__(self, path: Path, step: int = 0) -> None:
        kept = [row for row in read_journal(path) if row["step"] <= step]
        aside = path.with_name(f".{path.name}.part")
        self._file = aside.open("w", encoding="utf-8")
        for row in kept:
            self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        aside.replace(path)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one row; it survives the death of this process."""
        self._file.write(json.dumps({"step": step, "time": time.time(), **metrics}) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """Have what was written survive the death of this machine."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_journal(path: Path, after: int = 0) -> list[Row]:
    """Rows of steps later than `after`; a last line that is still being written is left out."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    rows: list[Row] = [json.loads(line) for line in lines]
    return [row for row in rows if row["step"] > after]
