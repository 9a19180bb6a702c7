"""What a person sees while stages run: bars on a terminal, a line every few seconds in a pipe."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from vjepa_exp.runtime.job import PROGRESS, Progress, StageJob

LIVE_S = 0.5
PIPED_S = 10.0


@dataclass
class _Begun:
    phase: str
    done: int
    at: float


class View:
    """Shows the progress files of a level's stages until it is closed.

    Args:
        console: where to.
        jobs: the stages; those that do not run yet are shown as soon as they do.
    """

    def __init__(self, console: Console, jobs: Sequence[StageJob]) -> None:
        self._console, self._jobs = console, {job.stage.id: job for job in jobs}
        self._begun: dict[str, _Begun] = {}
        self._said: dict[str, str] = {}
        self._rows: dict[str, TaskID] = {}
        self._bars: Bars | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="view", daemon=True)
        for job in jobs:
            (job.folder / PROGRESS).unlink(missing_ok=True)

    def __enter__(self) -> View:
        """Begin to show."""
        if self._console.is_terminal:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[text]}", markup=False),
            )
            self._bars = Bars(*columns, console=self._console, transient=True)
            self._bars.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop showing; the bars vanish."""
        self._stop.set()
        self._thread.join()
        if self._bars is not None:
            self._bars.stop()

    def ended(self, job: StageJob, line: str) -> None:
        """A stage has ended: its bar goes, a line stays."""
        self._jobs.pop(job.stage.id, None)
        if self._bars is not None and job.stage.id in self._rows:
            self._bars.remove_task(self._rows.pop(job.stage.id))
        self._console.print(line)
        (job.folder / PROGRESS).unlink(missing_ok=True)

    def _loop(self) -> None:
        interval = LIVE_S if self._bars is not None else PIPED_S
        while not self._stop.wait(interval):
            for name, job in list(self._jobs.items()):
                if (progress := Progress.read(job.folder)) is not None:
                    self._show(name, progress)

    def _show(self, name: str, progress: Progress) -> None:
        text = self._text(name, progress)
        if self._bars is None:
            if self._said.get(name) != text:
                self._console.print(f"{name}  {text}")
            self._said[name] = text
            return
        if name not in self._rows:
            self._rows[name] = self._bars.add_task(name, total=None, text="")
        self._bars.update(self._rows[name], completed=progress.done, total=progress.total, text=text)

    def _text(self, name: str, progress: Progress) -> str:
        parts = [f"{progress.phase} {progress.done}/{progress.total} {progress.unit}"]
        if progress.loss is not None:
            parts.append(f"loss {progress.loss:.3f}")
        if progress.per_s is not None:
            parts.append(f"{progress.per_s:.0f} clips/s")
        if (left := self._seconds_left(name, progress)) is not None:
            parts.append(f"{duration(left)} left")
        return ", ".join(parts)

    def _seconds_left(self, name: str, progress: Progress) -> float | None:
        now, begun = time.monotonic(), self._begun.get(name)
        if begun is None or begun.phase != progress.phase:
            self._begun[name] = _Begun(progress.phase, progress.done, now)
            return None
        if progress.done == begun.done:
            return None
        return (progress.total - progress.done) * (now - begun.at) / (progress.done - begun.done)


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
