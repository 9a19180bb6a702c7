"""Points of a search space, a pure function of its seed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from math import exp, log
from random import Random
from typing import Any

from vjepa_exp.spec.sweep import ProbeSweep
from vjepa_exp.spec.vary import Choice, Distribution, Grid, LogUniform


def draws(space: Mapping[Any, Distribution], num_samples: int, seed: int) -> Iterator[dict[str, Any]]:
    """Every crossing of the grids with `num_samples` draws of the rest, of which equal ones count once.

    Draw i does not depend on how many there are.
    """
    grids = {field: d.values for field, d in space.items() if isinstance(d, Grid)}
    drawn = {field: d for field, d in space.items() if not isinstance(d, Grid)}
    samples = list[dict[str, Any]]()
    for i in range(num_samples if drawn else 1):
        sample = {field: _draw(d, Random(f"{seed}/{field}/{i}")) for field, d in drawn.items()}
        if sample in samples:  # the same work
            continue
        samples.append(sample)
        for combination in itertools.product(*grids.values()):
            yield dict(zip(grids, combination, strict=True)) | sample


def sweep_size(sweep: ProbeSweep, at_most: int) -> tuple[int, int]:
    """Candidates of a sweep, and the rounds in which they are trained where a round holds at most so many."""
    if sweep.searcher == "optuna":
        return sweep.num_samples, -(-sweep.num_samples // min(sweep.round, at_most))
    candidates = sum(1 for _ in draws(sweep.space, sweep.num_samples, sweep.seed))
    return candidates, -(-candidates // at_most)


def printed(value: float) -> float:
    """A drawn number as it is printed: what is printed is what is run."""
    return float(f"{value:.4g}")


def _draw(distribution: LogUniform | Choice, random: Random) -> Any:
    if isinstance(distribution, Choice):
        return random.choice(distribution.values)
    low, high = log(distribution.low), log(distribution.high)
    return printed(exp(low + random.random() * (high - low)))
