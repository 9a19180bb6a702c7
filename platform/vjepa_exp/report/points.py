"""The points of one of the paper's figures: what was published and what was measured here, and what is missing of each.

Not responsible for drawing them, see `plots`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

from vjepa_exp.graph.result import StudyResult
from vjepa_exp.graph.store import Store
from vjepa_exp.report.table import Row, Table
from vjepa_exp.report.words import score
from vjepa_exp.spec.experiment import TimingColumn
from vjepa_exp.spec.published import Place, Plot, PublishedRow, PublishedTable
from vjepa_exp.spec.stages import PretrainRecipe
from vjepa_exp.track.journal import JOURNAL, read_journal


@dataclass(frozen=True)
class Point:
    """One row of the figure in one source; its place across is `x`, `at`, or unknown."""

    label: str
    y: float
    sd: float | None = None
    x: float | None = None
    at: Place | None = None
    earlier: bool = False
    """Printed by the earlier version of the paper: other runs, never mixed with the final one's."""


@dataclass(frozen=True)
class Side:
    """One source: the paper, or this study."""

    is_paper: bool
    points: tuple[Point, ...]
    missing: dict[str, list[str]]
    """Reason -> labels of the rows that have no point."""


def paper_side(published: PublishedTable, plot: Plot) -> Side:
    """What the paper prints."""
    points, silent = list[Point](), list[str]()
    for row in published.rows:
        found = list(_printed(row, plot))
        points += found
        silent += [] if found else [row.id if row.at else row.label]
    return Side(True, tuple(points), {"the paper prints no number": silent} if silent else {})


def _printed(row: PublishedRow, plot: Plot) -> Iterator[Point]:
    x = row.values.get(plot.x) if plot.x else None
    if (y := row.values.get(plot.y)) is not None:
        yield Point(row.label, y, row.sd.get(plot.y), x, row.at)
    if (y := row.earlier.get(plot.y)) is not None:
        yield Point(row.label, y, None, x, row.at, earlier=True)


def our_side(result: StudyResult, table: Table, plot: Plot, store: Store) -> Side:
    """What the study measured: means over its seeds."""
    printed = {row.id: row for row in table.published.rows} if table.published else {}
    points, missing = list[Point](), dict[str, list[str]]()
    for row in table.rows:
        ours = row.cells[plot.y].ours
        if row.baseline or ours is None:
            continue
        at, label = (printed[row.id].at, printed[row.id].label) if row.id in printed else (None, row.label)
        if ours.mean is None:
            missing.setdefault(ours.unavailable or score(ours), []).append(row.id if at else label)
        else:
            points.append(Point(label, ours.mean, ours.sd, _across(result, row, plot, store), at))
    return Side(False, tuple(points), missing)


def is_timed(result: StudyResult, plot: Plot) -> bool:
    """Whether the horizontal axis is the time of pretraining."""
    return isinstance(result.plan.experiment.experiment.derived.get(plot.x or ""), TimingColumn)


def _across(result: StudyResult, row: Row, plot: Plot, store: Store) -> float | None:
    if plot.x is None or plot.x not in row.cells:
        return None
    ours = row.cells[plot.x].ours
    if ours is not None and ours.mean is not None:
        return ours.mean
    return _hours(result, row.id, store) if is_timed(result, plot) else None


def _hours(result: StudyResult, variant: str, store: Store) -> float | None:
    """Hours of pretraining, mean over seeds: the median time of a step times the steps, as the paper scales its time.

    A median does not see what a restart or a checkpoint took.
    """
    hours = []
    for (name, _), stage in result.plan.pretraining.items():
        if name == variant and isinstance(stage.recipe, PretrainRecipe):
            rows = read_journal(store.path(stage) / JOURNAL)
            steps = [(b["time"] - a["time"]) / (b["step"] - a["step"]) for a, b in pairwise(rows)]
            hours += [median(steps) * stage.recipe.pretrain.optim.iterations / 3600] if steps else []
    return fmean(hours) if hours else None
