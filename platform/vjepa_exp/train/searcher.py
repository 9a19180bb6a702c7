"""Which settings of a probe are tried next: a pure function of the sweep's seed and of the scores so far."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from vjepa_exp.graph.draws import draws, printed
from vjepa_exp.spec.sweep import ProbeSweep
from vjepa_exp.spec.vary import Choice, LogUniform

Settings = dict[str, Any]
"""Fields of a probe's `optim` and their values."""


@dataclass(frozen=True)
class Candidate:
    """Settings that were tried, and how they did on the held-out videos.

    Attributes:
        settings: the tried ones.
        epochs: that it was trained; fewer than the others where it was stopped.
        top1: per cent of the held-out videos.
        loss: mean negative log-likelihood there.
        error: why it has no score, '' where it has one.
    """

    settings: Settings
    epochs: int = 0
    top1: float = 0.0
    loss: float = float("inf")
    error: str = ""

    @property
    def rank(self) -> tuple[bool, int, float, float]:
        """The greater, the better: what went further, then what is right more often, then what is surer."""
        return not self.error, self.epochs, self.top1, -self.loss


class Searcher(Protocol):
    """Proposes settings, round by round."""

    def rounds(self) -> Iterator[list[Settings]]:
        """The settings of each round; `tell` is called between two of them."""
        ...

    def tell(self, tried: Sequence[Candidate]) -> None:
        """How the settings of the round did, in their order."""
        ...


def searcher(sweep: ProbeSweep, at_most: int) -> Searcher:
    """The searcher of a sweep; a round has at most so many candidates."""
    return Optuna(sweep, at_most) if sweep.searcher == "optuna" else Independent(sweep, at_most)


class Independent:
    """Points that were all drawn beforehand."""

    def __init__(self, sweep: ProbeSweep, at_most: int) -> None:
        self._points = list(draws(sweep.space, sweep.num_samples, sweep.seed))
        self._at_most = at_most

    def rounds(self) -> Iterator[list[Settings]]:
        """All of them, as many at a time as there is room for."""
        for start in range(0, len(self._points), self._at_most):
            yield self._points[start : start + self._at_most]

    def tell(self, tried: Sequence[Candidate]) -> None:
        """Nothing depends on it."""


class Optuna:
    """Optuna's tree-structured Parzen estimator, seeded; it hears of a round's scores all at once and in order."""

    def __init__(self, sweep: ProbeSweep, at_most: int) -> None:
        import optuna  # a second, and only here

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._sweep, self._size = sweep, min(sweep.round, at_most)
        sampler = optuna.samplers.TPESampler(seed=sweep.seed, n_startup_trials=sweep.round)
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._asked: list[Any] = []

    def rounds(self) -> Iterator[list[Settings]]:
        """Rounds until `num_samples` candidates were tried."""
        for start in range(0, self._sweep.num_samples, self._size):
            self._asked = [self._study.ask() for _ in range(min(self._size, self._sweep.num_samples - start))]
            yield [self._settings(trial) for trial in self._asked]

    def tell(self, tried: Sequence[Candidate]) -> None:
        """A candidate without a score counts as failed."""
        from optuna.trial import TrialState

        for trial, candidate in zip(self._asked, tried, strict=True):
            if candidate.error:
                self._study.tell(trial, state=TrialState.FAIL)
            else:
                self._study.tell(trial, candidate.top1)

    def _settings(self, trial: Any) -> Settings:
        settings: Settings = {}
        for field, distribution in self._sweep.space.items():
            if isinstance(distribution, LogUniform):
                drawn = trial.suggest_float(field, distribution.low, distribution.high, log=True)
                settings[field] = printed(drawn)
            else:
                assert isinstance(distribution, Choice)
                settings[field] = trial.suggest_categorical(field, list(distribution.values))
        return settings
