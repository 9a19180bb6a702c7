"""Training workers that stay: stage after stage, those of a trial's process are done by one group of Ray Train.

A group is a chain of processes that start one after the other, which takes a laptop as long as a small probe itself. So
workers of this machine wait for what comes next when their stages are done, and go with the process of their trial.
Nothing of a stage is left in them: randomness is keyed, and decoders end with their stream.
"""

from __future__ import annotations

import gc
import pickle
import threading
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from vjepa_exp.runtime.job import Failure, NodeLeaving, Outcome, StageJob

LOOK_S = 0.05
STAGES, OUTCOMES = "stages", "outcomes"

Work = Callable[[Sequence[StageJob]], list[Outcome | Failure]]


class Trainer(Protocol):
    """What a group needs of Ray's."""

    def fit(self) -> Any:
        """Start workers and return when all of them have returned, or raise why they have not."""


class Exchange:
    """Numbered messages between a trial and its workers: files in a folder that both see, read whole or not yet."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, kind: str, number: int, value: object) -> None:
        """Leave a message."""
        self._folder.mkdir(parents=True, exist_ok=True)
        aside = self._folder / f"{kind}-{number}.part"
        aside.write_bytes(pickle.dumps(value))
        aside.replace(self._file(kind, number))

    def get(self, kind: str, number: int, still: Callable[[], bool] = lambda: True) -> Any:
        """Wait for a message for as long as `still` says so; None: there will be none."""
        file = self._file(kind, number)
        while not file.exists():
            if not still() and not file.exists():
                return None
            time.sleep(LOOK_S)
        return pickle.loads(file.read_bytes())

    def _file(self, kind: str, number: int) -> Path:
        return self._folder / f"{kind}-{number}"


def serve(exchange: Exchange, work: Work, rank: int, asked_to_leave: Callable[[], bool]) -> None:
    """Be a worker: do stages as they come, until there are no more. Each rank does all of them, rank 0 answers.

    Raises:
        NodeLeaving: asked to leave while it waited.
    """
    for number in count(1):
        jobs = exchange.get(STAGES, number, still=lambda: not asked_to_leave())
        if jobs is None:
            if asked_to_leave():
                raise NodeLeaving("asked to leave between two stages")
            return
        outcomes = work(jobs)
        gc.collect()  # a stream that was not read to its end keeps its decoders' CPUs until it is gone
        if rank == 0:
            exchange.put(OUTCOMES, number, outcomes)


class Group:
    """Workers as their trial has them.

    Args:
        trainer: its workers `serve` the exchange; it starts at once.
        exchange: a new one.
    """

    def __init__(self, trainer: Trainer, exchange: Exchange) -> None:
        self._exchange, self._number = exchange, 0
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._fit, args=(trainer,), name="workers", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether its workers are gone, or about to go."""
        return not self._thread.is_alive()

    def do(self, jobs: Sequence[StageJob]) -> list[Outcome | Failure]:
        """Have stages done.

        Raises:
            TrainingFailedError: as `fit` raised it. The group has ended.
        """
        self._number += 1
        self._exchange.put(STAGES, self._number, jobs)
        outcomes = self._exchange.get(OUTCOMES, self._number, still=self._thread.is_alive)
        if outcomes is None:
            raise self._error or RuntimeError("the workers left without a word")
        assert isinstance(outcomes, list)
        return outcomes

    def end(self) -> None:
        """Have the workers leave, and wait for it."""
        self._exchange.put(STAGES, self._number + 1, None)
        self._thread.join()

    def _fit(self, trainer: Trainer) -> None:
        try:
            trainer.fit()
        except Exception as error:  # noqa: BLE001 (raised where stages wait for it)
            self._error = error
