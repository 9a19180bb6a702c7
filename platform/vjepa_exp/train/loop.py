"""The only loop over training steps: batches in, one `StepInfo` per step out.

Everything that is not the step itself (logging, checkpoints, progress) is a hook on the infos, see `hooks`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar


class State(Protocol):
    """What a step changes in place."""

    step: int


class Metrics(Protocol):
    """What a step says about itself, on the device until somebody asks."""

    def to_floats(self) -> dict[str, float]:
        """All values by name; one host synchronisation."""
        ...


S = TypeVar("S", bound=State)
B = TypeVar("B")


@dataclass(frozen=True)
class StepInfo(Generic[S]):
    """A finished step. Steps count from 1; `state` is the live one and changes with the next step."""

    step: int
    last_step: int
    state: S
    metrics: Metrics
    clips: int
    """Clips of the global batch."""
    evaluation: Mapping[str, float] = field(default_factory=dict)
    """Scores on held-out data, where this step ended with an evaluation."""


Hook = Callable[[StepInfo[S]], None]


def training_steps(
    state: S, batches: Iterable[B], train_step: Callable[[S, B], Metrics], *, until: int, clips: int
) -> Iterator[StepInfo[S]]:
    """Train from `state.step` to step `until`, one batch a step.

    Args:
        state: where training stands; `train_step` advances its `step`.
        batches: the batch of step `state.step + 1`, then the following ones.
        train_step: trains on one batch, without waiting for the device.
        until: the last step.
        clips: clips of a global batch, for the rate.

    Raises:
        RuntimeError: the batches end before the last step.
    """
    stream = iter(batches)
    while state.step < until:
        try:
            batch = next(stream)
        except StopIteration:
            raise RuntimeError(f"the stream of batches ended after step {state.step} of {until}") from None
        metrics = train_step(state, batch)
        yield StepInfo(state.step, until, state, metrics, clips)
