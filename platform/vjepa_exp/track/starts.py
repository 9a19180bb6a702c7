"""The starts of a stage, one JSON object a line in its folder: from which step it went on, and what that took."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

STARTS = "starts.jsonl"


@dataclass(frozen=True)
class Start:
    """Training that began or went on, up to the end of its first step.

    Attributes:
        step: the step of the checkpoint, 0 for none; the first step done is the next one.
        repeated: steps that an earlier start had logged and that are done again.
        time: when the first step was done, seconds since 1970.
        seconds: phase -> what it took, in the order of the phases: `plan` (from the command to the stages), `ray` (its
            start), `workers` (until the training process runs), `restore` (manifests, networks, checkpoint), `batch`
            (until the first batch is there) and `step`. The first two are missing where they were over long ago: for a
            stage that waited for others, and for workers that are replaced.
        lost: seconds that the loss of workers has cost: from the checkpoint that they had left to the end of the first
            step. 0 where a run begins or is begun again: what lies between two runs is not lost.
        workers: training processes.
    """

    step: int
    repeated: int
    time: float
    seconds: dict[str, float]
    lost: float = 0.0
    workers: int = 1

    @property
    def total(self) -> float:
        """Seconds from the command, or from the loss of the workers, to the end of the first step."""
        return sum(self.seconds.values())

    def __str__(self) -> str:
        parts = ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in self.seconds.items())
        again = f", {self.repeated} steps done again" if self.repeated else ""
        lost = f"; {self.lost:.0f} s lost" if self.lost else ""
        workers = f", {self.workers} workers" if self.workers > 1 else ""
        return f"at step {self.step} after {self.total:.0f} s ({parts}{again}){lost}{workers}"


def note_start(folder: Path, start: Start) -> None:
    """Append a start."""
    with (folder / STARTS).open("a", encoding="utf-8") as file:
        file.write(f"\n{json.dumps(asdict(start))}\n")  # the line before it may have met a full disk


def read_starts(folder: Path) -> list[Start]:
    """The starts of a stage, the first one first; a line that is not whole, or not yet, is left out."""
    file, starts = folder / STARTS, list[Start]()
    for line in file.read_bytes().split(b"\n") if file.is_file() else ():
        with suppress(ValueError, TypeError):
            starts.append(Start(**json.loads(line)))
    return starts
