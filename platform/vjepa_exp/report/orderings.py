"""Which of the paper's orderings hold here: two rows of a column at a time, each source compared within itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from math import hypot, sqrt

from vjepa_exp.report.table import Column, Gap, Row, Score, Table, gap_by_seed
from vjepa_exp.spec.published import PublishedRow

SURE = 2.0
"""Standard errors from which on a distance is one."""
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""Seeds -> Student's t at 97.5 % with one degree of freedom less; more seeds are as good as 10."""


class Verdict(StrEnum):
    """What our numbers say of a pair that the paper orders."""

    HOLDS = "as in the paper"
    REVERSED = "the other way"
    OPEN = "too close to call"


@dataclass(frozen=True)
class Pair:
    """Two rows of a column: `better` has the higher number in the paper, or else in its earlier version."""

    column: str
    better: str
    worse: str
    published: float
    """Points between them in the paper, positive."""
    ours: Gap
    """The same of ours."""
    error: float
    """Standard error of our mean, in points: of the test videos and, where there are several, of the seeds.

    The spread of a few seeds is not well known itself: their part is as much larger as Student's t is than `SURE`.
    """
    earlier: bool = False
    """The paper prints no number for one of them: the earlier version of it, which prints both, orders them."""
    probe_seeds: bool = False
    """The seeds are those of probes on one encoder a row."""

    @property
    def verdict(self) -> Verdict:
        """Ours against the paper's."""
        if abs(self.ours.mean) < SURE * self.error:
            return Verdict.OPEN
        return Verdict.HOLDS if self.ours.mean > 0 else Verdict.REVERSED


def orderings(table: Table) -> tuple[Pair, ...]:
    """Every pair of rows that the paper or its earlier version orders and that has scores of ours, by column."""
    printed = {row.id: row for row in table.published.rows} if table.published else {}
    return tuple(
        pair
        for column in table.columns
        for rows in combinations([row for row in table.rows if row.id in printed], 2)
        for pair in _pair(column, rows, [printed[row.id] for row in rows], table.probe_seeds)
    )


def count_verdicts(pairs: tuple[Pair, ...]) -> dict[str, Counter[Verdict]]:
    """Column -> how many of its pairs there are of each verdict."""
    columns = dict.fromkeys(pair.column for pair in pairs)
    return {column: Counter(pair.verdict for pair in pairs if pair.column == column) for column in columns}


def _pair(column: Column, rows: tuple[Row, Row], printed: list[PublishedRow], probe_seeds: bool) -> Iterator[Pair]:
    numbers = [row.values.get(column.id) for row in printed]
    if earlier := None in numbers:
        numbers = [row.earlier.get(column.id) for row in printed]
    if numbers[0] is None or numbers[1] is None or numbers[0] == numbers[1]:
        return
    better, worse = rows if numbers[0] > numbers[1] else rows[::-1]
    high, low = better.cells[column.id].ours, worse.cells[column.id].ours
    ours = gap_by_seed(high, low)
    if ours is None or high is None or low is None or not (high.covered and low.covered):
        return
    seeds = len(high.by_seed.keys() & low.by_seed.keys())
    error = hypot(_of_test(high), _of_test(low), _of_seeds(ours, seeds))
    published = abs(numbers[0] - numbers[1])
    yield Pair(column.label, better.label, worse.label, published, ours, error, earlier, probe_seeds)


def _of_seeds(gap: Gap, seeds: int) -> float:
    """Standard error of a mean over seeds, times what is uncertain of it; 0 for one seed, which says nothing of it."""
    return 0.0 if gap.sd is None else gap.sd / sqrt(seeds) * STUDENT[min(seeds, max(STUDENT))] / SURE


def _of_test(score: Score) -> float:
    """Standard error of a percentage over so many test videos, in points; never quite nothing."""
    share = (min(100.0, score.mean or 0.0) * score.covered / 100 + 1) / (score.covered + 2)
    return 100 * sqrt(share * (1 - share) / score.covered)
