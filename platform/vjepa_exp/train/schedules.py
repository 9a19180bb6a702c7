"""Learning rate, weight decay and EMA momentum at a step (paper Table 8; method facts section 6).

Steps count from 1. The cosines are laid out over `schedule_scale` times the iterations and cut off at the end of
training.
"""

from math import cos, pi
from typing import NamedTuple

from vjepa_exp.spec.pretrain import OptimSpec


class Schedule(NamedTuple):
    """The values that step `s` trains with."""

    lr: float
    weight_decay: float
    momentum: float


def schedule_at(spec: OptimSpec, step: int) -> Schedule:
    """All three schedules at a step, counted from 1."""
    return Schedule(learning_rate(spec, step), weight_decay(spec, step), momentum(spec, step))


def learning_rate(spec: OptimSpec, step: int) -> float:
    """Linear from `start_lr` to `lr` during the warm-up, then a cosine towards `final_lr`."""
    if step < spec.warmup:
        return spec.start_lr + step / spec.warmup * (spec.lr - spec.start_lr)
    progress = (step - spec.warmup) / max(1, _length(spec) - spec.warmup)
    return max(spec.final_lr, spec.final_lr + (spec.lr - spec.final_lr) * _half_cosine(progress))


def weight_decay(spec: OptimSpec, step: int) -> float:
    """A cosine from `weight_decay` to `final_weight_decay` (the paper says linear; the released runs used a cosine)."""
    start, final = spec.weight_decay, spec.final_weight_decay
    return final + (start - final) * _half_cosine(step / _length(spec))


def momentum(spec: OptimSpec, step: int) -> float:
    """Linear from `ema` at step 1 towards `final_ema`."""
    return spec.ema + (step - 1) * (spec.final_ema - spec.ema) / (spec.iterations * spec.schedule_scale)


def _length(spec: OptimSpec) -> int:
    return int(spec.iterations * spec.schedule_scale)


def _half_cosine(progress: float) -> float:
    """1 at progress 0, 0 at progress 1."""
    return 0.5 * (1 + cos(pi * progress))
