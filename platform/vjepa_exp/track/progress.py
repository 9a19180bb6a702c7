"""Where a stage stands while it is worked on: one small file in its folder, gone when the stage ends."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

PROGRESS = "progress.json"


@dataclass(frozen=True)
class Progress:
    """Where a running stage stands; a total of 0 means that it only starts."""

    phase: str
    done: int
    total: int
    loss: float | None = None
    per_s: float | None = None

    def write(self, folder: Path) -> None:
        """Put it where the driver looks; a reader sees the old state or the new one."""
        aside = folder / f".{PROGRESS}.part"
        aside.write_text(json.dumps(vars(self)), encoding="utf-8")
        aside.replace(folder / PROGRESS)

    @staticmethod
    def read(folder: Path) -> Progress | None:
        """What was written last, None if nothing was."""
        try:
            return Progress(**json.loads((folder / PROGRESS).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None

    def __str__(self) -> str:
        return f"{self.phase} {self.done} of {self.total}" if self.total else self.phase


STARTS = Progress("workers start", 0, 0)
"""A stage whose workers are not there yet."""
