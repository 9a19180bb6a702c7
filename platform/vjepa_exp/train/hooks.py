"""Hooks on training steps: when to call them, and the one that logs."""

import math
import time
from collections.abc import Callable

import torch

from vjepa_exp.spec.errors import UserError
from vjepa_exp.train.loop import Hook, S, StepInfo
from vjepa_exp.train.world import World

MetricSink = Callable[[int, dict[str, float]], None]
"""Takes the metrics of a step: (step, values by name)."""


class DivergedError(UserError):
    """The loss is not finite, on every worker alike."""


def every(steps: int, hook: Hook[S]) -> Hook[S]:
    """Call `hook` at every multiple of `steps`, after an evaluation and at the last step."""

    def maybe(info: StepInfo[S]) -> None:
        if info.step % steps == 0 or info.step == info.last_step or info.evaluation:
            hook(info)

    return maybe


def log_metrics(world: World, sink: MetricSink, clock: Callable[[], float] = time.perf_counter) -> Hook[S]:
    """A hook that hands a step's metrics, averaged over the workers, and `clips_per_s` to `sink` on rank 0.

    It costs a device synchronisation, and it takes part in a reduction: put it on every worker, inside `every`.

    Raises:
        DivergedError: (when called) the loss is not finite; training stops there.
    """
    begun: tuple[int, float] | None = None

    def log(info: StepInfo[S]) -> None:
        nonlocal begun
        values = info.metrics.to_floats()
        if world.size > 1:
            shares = torch.tensor(list(values.values()), dtype=torch.float64).to(world.device)
            values = dict(zip(values, (world.sum(shares) / world.size).tolist(), strict=True))
        if not math.isfinite(values["loss"]):
            raise DivergedError(
                f"training diverged: the loss is {values['loss']} at step {info.step}; "
                "lower optim.lr, lengthen the warm-up or set clip_grad"
            )
        now = clock()
        if begun is not None:
            values["clips_per_s"] = (info.step - begun[0]) * info.clips / (now - begun[1])
        begun = (info.step, now)
        if world.rank == 0:
            sink(info.step, {**values, **info.evaluation})

    return log
