"""What a person sees while stages run: bars on a terminal, a line every few seconds in a pipe."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from vjepa_exp.runtime.job import StageJob
from vjepa_exp.runtime.slots import Slots
from vjepa_exp.track.progress import PROGRESS, STARTS, Progress
from vjepa_exp.track.starts import read_starts

if TYPE_CHECKING:
    from vjepa_exp.runtime.waiting import Waiting

LIVE_S = 0.5
PIPED_S = 10.0
ASK_S = 5.0
"""Between two questions to Ray."""

AskRay = Callable[[Sequence[tuple[Slots, float]]], "Waiting | None"]


@dataclass
class _Running:
    """A stage that runs, and where its phase stood when it was first seen."""

    job: StageJob
    since: float
    task: TaskID | None = None
    said: str = ""
    phase: str = ""
    phase_done: int = 0
    phase_since: float = 0.0
    starts: int = 0
    starting_since: float | None = None


class View:
    """Shows a run until it is closed: on a terminal a bar for each running stage and one for all of them.

    Args:
        console: where to.
        done: stages that are done already.
        total: stages of the run.
    """

    def __init__(self, console: Console, done: int, total: int) -> None:
        self._console, self._done, self._total = console, done, total
        self._since, self._says = time.monotonic(), ""
        self._running: dict[str, _Running] = {}
        self._bars: Bars | None = None
        self._all = TaskID(0)
        self._ask_ray: AskRay | None = None
        self._asked, self._waits, self._said_waiting = 0.0, "", (0, 0.0)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._loop, name="view", daemon=True)

    def __enter__(self) -> View:
        """Begin to show."""
        if self._console.is_terminal:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[text]}", markup=False),
            )
            self._bars = Bars(*columns, console=self._console, transient=True)
            self._all = self._bars.add_task("", total=self._total, text="")
            self._show_all()
            self._bars.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop showing; the bars vanish."""
        self._stop.set()
        self._thread.join()
        if self._bars is not None:
            self._bars.stop()

    def says(self, text: str) -> None:
        """What goes on besides the stages; '' for nothing."""
        self._says = text
        if text and self._bars is None:
            self._console.print(text)

    def on_cluster(self, ask_ray: AskRay) -> None:
        """Nodes come and go from here on: whoever waits for them is told of."""
        self._ask_ray = ask_ray

    def begun(self, job: StageJob) -> None:
        """A stage has begun."""
        with suppress(OSError):  # a full disk: the stage itself fails of it, and says so
            STARTS.write(job.folder)
        self._says = ""
        with self._lock:
            starts = len(read_starts(job.folder))
            self._running[job.stage.id] = _Running(job, time.monotonic(), starts=starts)

    def ended(self, job: StageJob, line: str) -> None:
        """A stage has ended: its bar goes, a line stays."""
        with self._lock:
            running = self._running.pop(job.stage.id, None)
            if running is not None:
                self._tell_restarts(running)
            if self._bars is not None and running is not None and running.task is not None:
                self._bars.remove_task(running.task)
            self._done += 1
        self._console.print(f"{job.label}  {line}", soft_wrap=True)
        (job.folder / PROGRESS).unlink(missing_ok=True)

    def _loop(self) -> None:
        interval = LIVE_S if self._bars is not None else PIPED_S
        while not self._stop.wait(interval):
            with self._lock:
                for running in self._running.values():
                    self._tell_restarts(running)
                    self._show(running, Progress.read(running.job.folder))
                self._tell_waiting()
                self._show_all()

    def _tell_waiting(self) -> None:
        now = time.monotonic()
        if self._ask_ray is None or now - self._asked < ASK_S:
            return
        self._asked = now
        starting = [
            (running.job.slots, now - running.starting_since)
            for running in self._running.values()
            if running.starting_since is not None and now - running.starting_since > ASK_S
        ]
        found = self._ask_ray(starting)
        self._waits = found.text if found else ""
        stages, seconds = self._said_waiting
        if found is None:
            self._said_waiting = (0, 0.0)
        elif self._bars is None and (found.stages != stages or found.seconds >= 2 * seconds):
            self._console.print(found.text, soft_wrap=True)
            self._said_waiting = (found.stages, found.seconds)

    def _tell_restarts(self, running: _Running) -> None:
        starts = read_starts(running.job.folder)
        for number, start in enumerate(starts[running.starts :], running.starts):
            if number:
                self._console.print(f"{running.job.label}  resumed {start}", soft_wrap=True)
        running.starts = len(starts)

    def _show_all(self) -> None:
        if self._bars is not None:
            words = (self._says, self._waits, duration(time.monotonic() - self._since))
            name = f"{self._done} of {self._total} stages"
            self._bars.update(self._all, description=name, completed=self._done, text=", ".join(filter(None, words)))

    def _show(self, running: _Running, progress: Progress | None) -> None:
        progress = progress if progress and progress.total else None
        name, text = running.job.label, _text(running, progress) if progress else "starts"
        if progress is None and running.starting_since is None:
            running.starting_since = time.monotonic()
        elif progress is not None:
            running.starting_since = None
        if self._bars is None:
            if running.said != text:
                self._console.print(f"{name}  {text}", soft_wrap=True)
            running.said = text
            return
        if running.task is None:
            running.task = self._bars.add_task(name, total=None, text="")
        if progress is None:
            self._bars.update(running.task, text=f"{text}, {duration(time.monotonic() - running.since)}")
        else:
            self._bars.update(running.task, completed=progress.done, total=progress.total, text=text)


def _text(running: _Running, progress: Progress) -> str:
    parts = [f"{progress.phase} {progress.done}/{progress.total}"]
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.3f}")
    if progress.per_s is not None:
        parts.append(f"{progress.per_s:.0f} clips/s")
    if (left := _seconds_left(running, progress)) is not None:
        parts.append(f"{duration(left)} left")
    return ", ".join(parts)


def _seconds_left(running: _Running, progress: Progress) -> float | None:
    now = time.monotonic()
    if running.phase != progress.phase:
        running.phase, running.phase_done, running.phase_since = progress.phase, progress.done, now
    if progress.done == running.phase_done:
        return None
    return (progress.total - progress.done) * (now - running.phase_since) / (progress.done - running.phase_done)


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
