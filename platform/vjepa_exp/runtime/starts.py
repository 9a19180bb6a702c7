"""What a start of training takes, phase by phase, measured where it happens."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

from vjepa_exp.runtime.job import StageJob
from vjepa_exp.runtime.stream import Batch
from vjepa_exp.track.journal import JOURNAL, read_journal
from vjepa_exp.track.starts import Start, note_start
from vjepa_exp.train.loop import StepInfo
from vjepa_exp.train.world import World


class StartClock:
    """Notes one start in the stage's folder when its first step is done. Make it before the journal is cut.

    Args:
        job: the stage; says what came before the training process.
        world: this worker among its equals; only rank 0 writes.
        step: the step that training continues from.
        entered: when (seconds since 1970) this process took up the stage.
    """

    def __init__(self, job: StageJob, world: World, step: int, entered: float) -> None:
        self._job, self._workers, self._writes, self._step = job, world.size, world.rank == 0, step
        self._repeated = max((int(row["step"]) - step for row in read_journal(job.folder / JOURNAL, step)), default=0)
        self._marks = [entered]

    def watch(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches themselves: the first call for one is the end of restoring."""
        self._mark(2)
        for batch in batches:
            self._mark(3)
            yield batch

    def done(self, info: StepInfo[Any] | None = None) -> None:
        """A hook for every step; the first one counts."""
        if len(self._marks) == 3:
            self._mark(4)
            if self._writes:
                note_start(self._job.folder, self._start())

    def _mark(self, number: int) -> None:
        if len(self._marks) < number:
            self._marks.append(time.time())

    def _start(self) -> Start:
        seconds = dict(self._job.before)
        ready = self._marks[0] if self._job.ready is None else self._job.ready
        edges = [ready, *self._marks]
        for phase, (begin, end) in zip(("workers", "restore", "batch", "step"), pairwise(edges), strict=True):
            seconds[phase] = max(0.0, end - begin)  # two machines' clocks may differ
        end, since = self._marks[-1], self._job.lost_since
        return Start(
            self._step,
            self._repeated,
            end,
            {name: round(value, 3) for name, value in seconds.items()},
            lost=0.0 if since is None else round(max(0.0, end - since), 3),
            workers=self._workers,
        )
