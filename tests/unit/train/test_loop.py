"""The loop: which batch meets which step, and when hooks are called."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest

from vjepa_exp.spec.errors import UserError
from vjepa_exp.train.hooks import every, log_metrics
from vjepa_exp.train.loop import StepInfo, training_steps
from vjepa_exp.train.world import World


@dataclass
class Sum:
    step: int = 0
    seen: list[int] = field(default_factory=list)


@dataclass
class Loss:
    loss: float

    def to_floats(self) -> dict[str, float]:
        return {"loss": self.loss}


def add(state: Sum, batch: int) -> Loss:
    state.step += 1
    state.seen.append(batch)
    return Loss(batch / 2)


def info(step: int, last: int, loss: float = 1.0, clips: int = 10, **more: float) -> StepInfo[Sum]:
    return StepInfo(step, last, Sum(step), Loss(loss), clips, more)


def test_continues_from_the_state_and_takes_no_batch_too_many() -> None:
    batches = iter(range(5, 100))
    state = Sum(step=5)
    infos = list(training_steps(state, batches, add, until=8, clips=4))
    assert [i.step for i in infos] == [6, 7, 8]
    assert state.seen == [5, 6, 7]
    assert next(batches) == 8


def test_a_finished_state_trains_no_further() -> None:
    assert list(training_steps(Sum(step=8), iter(()), add, until=8, clips=4)) == []


def test_a_stream_that_ends_too_soon_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="ended after step 2 of 3"):
        list(training_steps(Sum(), [1, 2], add, until=3, clips=4))


def test_every_calls_at_multiples_evaluations_and_the_end() -> None:
    called: list[int] = []
    hook = every(4, lambda i: called.append(i.step))
    for step in range(1, 11):
        hook(info(step, 10, **({"top1": 5.0} if step == 7 else {})))
    assert called == [4, 7, 8, 10]


def test_logged_rate_counts_the_clips_between_two_logs() -> None:
    now = iter([100.0, 102.0])
    logged: list[tuple[int, dict[str, float]]] = []
    hook = log_metrics(World(), lambda step, values: logged.append((step, values)), clock=lambda: next(now))
    hook(info(5, 9))
    hook(info(9, 9, loss=0.5, top1=50.0))
    assert logged == [(5, {"loss": 1.0}), (9, {"loss": 0.5, "clips_per_s": 20.0, "top1": 50.0})]


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_training(loss: float) -> None:
    with pytest.raises(UserError, match=r"diverged.* step 3"):
        log_metrics(World(), lambda step, values: None)(info(3, 9, loss=loss))
