"""Which of the paper's orderings hold here: two rows of a column at a time, each source compared within itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from math import hypot, sqrt

from vjepa_exp.report.table import Gap, Row, Score, Table, gap_by_seed

SURE = 2.0
"""Standard errors from which on a distance is one."""


class Verdict(StrEnum):
    """What our numbers say of a pair that the paper orders."""

    HOLDS = "as in the paper"
    REVERSED = "the other way"
    OPEN = "too close to call"


@dataclass(frozen=True)
class Pair:
    """Two rows of a column: `better` has the higher published number."""

    column: str
    better: str
    worse: str
    published: float
    """Points between them in the paper, positive."""
    ours: Gap
    """The same of ours."""
    error: float
    """Standard error of our mean, in points: of the test videos and, where there are several, of the seeds."""

    @property
    def verdict(self) -> Verdict:
        """Ours against the paper's."""
        if abs(self.ours.mean) < SURE * self.error:
            return Verdict.OPEN
        return Verdict.HOLDS if self.ours.mean > 0 else Verdict.REVERSED


def orderings(table: Table) -> tuple[Pair, ...]:
    """Every pair of rows that the paper orders and that has scores of ours, column by column."""
    return tuple(
        pair
        for column in table.columns
        for one, other in combinations(table.rows, 2)
        for pair in _pair(column.id, column.label, one, other)
    )


def count_verdicts(pairs: tuple[Pair, ...]) -> dict[str, Counter[Verdict]]:
    """Column -> how many of its pairs there are of each verdict."""
    columns = dict.fromkeys(pair.column for pair in pairs)
    return {column: Counter(pair.verdict for pair in pairs if pair.column == column) for column in columns}


def _pair(column: str, label: str, one: Row, other: Row) -> Iterator[Pair]:
    published = [row.cells[column].published for row in (one, other)]
    scores = [row.cells[column].ours for row in (one, other)]
    if published[0] is None or published[1] is None or published[0] == published[1]:
        return
    if published[0] < published[1]:
        one, other, scores = other, one, scores[::-1]
    ours = gap_by_seed(*scores)
    if ours is None or scores[0] is None or scores[1] is None or not all(s and s.covered for s in scores):
        return
    seeds = len(scores[0].by_seed.keys() & scores[1].by_seed.keys())
    error = hypot(_of_test(scores[0]), _of_test(scores[1]), (ours.sd or 0.0) / sqrt(seeds))
    yield Pair(label, one.label, other.label, abs(published[0] - published[1]), ours, error)


def _of_test(score: Score) -> float:
    """Standard error of a percentage over so many test videos, in points; never quite nothing."""
    share = (min(100.0, score.mean or 0.0) * score.covered / 100 + 1) / (score.covered + 2)
    return 100 * sqrt(share * (1 - share) / score.covered)
