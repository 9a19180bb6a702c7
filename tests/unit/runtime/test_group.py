"""Workers that stay: each stage is done once and in order, and what ends the workers reaches the stage that waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from vjepa_exp.runtime.group import Exchange, Group, serve
from vjepa_exp.runtime.job import Failure, NodeLeaving, Outcome


class Workers:
    """Threads in the place of Ray's workers; `fit` behaves as Ray's."""

    def __init__(self, exchange: Exchange, work: Callable[[int, Any], list[Outcome | Failure]], size: int) -> None:
        self._exchange, self._work, self._size = exchange, work, size
        self._errors: list[Exception] = []
        self.leaving: set[int] = set()

    def fit(self) -> None:
        threads = [threading.Thread(target=self._serve, args=(rank,)) for rank in range(self._size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._errors:
            raise self._errors[0]

    def _serve(self, rank: int) -> None:
        try:
            serve(self._exchange, lambda jobs: self._work(rank, jobs), rank, lambda: rank in self.leaving)
        except Exception as error:  # noqa: BLE001 (as Ray does)
            self._errors.append(error)


def outcome(jobs: Sequence[Any]) -> list[Outcome | Failure]:
    return [Outcome({"loss": float(job)}, {}, []) for job in jobs]


def test_all_workers_do_all_stages_and_the_first_one_answers(tmp_path: Path) -> None:
    done: dict[int, list[Any]] = {0: [], 1: []}

    def work(rank: int, jobs: Any) -> list[Outcome | Failure]:
        done[rank].append(jobs)
        return outcome(jobs) if rank == 0 else []

    exchange = Exchange(tmp_path / "exchange")
    group = Group(Workers(exchange, work, 2), exchange)
    asked: list[Any] = [[1], [2, 3], [4]]
    assert [group.do(jobs) for jobs in asked] == [outcome(jobs) for jobs in asked]
    assert not group.ended
    group.end()
    assert group.ended
    assert done == {0: asked, 1: asked}


def test_what_ends_the_workers_is_raised_where_a_stage_waits(tmp_path: Path) -> None:
    def work(_: int, jobs: Any) -> list[Outcome | Failure]:
        if jobs == [2]:
            raise ValueError("lost")
        return outcome(jobs)

    exchange = Exchange(tmp_path)
    group = Group(Workers(exchange, work, 1), exchange)
    first: Any = [1]
    second: Any = [2]
    assert group.do(first) == outcome(first)
    with pytest.raises(ValueError, match="lost"):
        group.do(second)
    assert group.ended


def test_a_worker_that_is_asked_to_leave_while_it_waits_leaves(tmp_path: Path) -> None:
    exchange = Exchange(tmp_path)
    workers = Workers(exchange, lambda _, jobs: outcome(jobs), 1)
    group = Group(workers, exchange)
    first: Any = [1]
    assert group.do(first) == outcome(first)
    workers.leaving.add(0)
    while not group.ended:
        time.sleep(0.01)
    with pytest.raises(NodeLeaving):
        group.do(first)


def test_an_answer_that_came_before_the_end_counts(tmp_path: Path) -> None:
    exchange = Exchange(tmp_path)
    exchange.put("outcomes", 1, [])
    assert exchange.get("outcomes", 1, still=lambda: False) == []
    assert exchange.get("outcomes", 2, still=lambda: False) is None
