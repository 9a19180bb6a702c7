"""One table of a study: variants down, probes across, the paper's numbers beside ours.

Published numbers and ours are never mixed: under any profile but `paper` they belong to other models, data and clips,
so only the distances within one source are compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import fmean, stdev

from vjepa_exp.graph.plan import Cell as PlanCell
from vjepa_exp.graph.plan import Plan
from vjepa_exp.graph.result import StudyResult
from vjepa_exp.report.published import Published, read_published
from vjepa_exp.spec.load import PAPER, ResolvedExperiment, read_experiment, resolve

BASELINE_LABEL = "random initialisation"


@dataclass(frozen=True)
class Score:
    """Our top-1 of one cell: a percentage per seed, and what it covers."""

    values: tuple[float, ...]
    videos: int
    """Videos (or images) of the validation split."""
    covered: int
    """The fewest of them that a seed's number covers: what cannot be decoded is left out, never replaced."""
    failures: tuple[str, ...] = ()
    """Why seeds are missing."""

    @property
    def mean(self) -> float | None:
        """Mean over the seeds that are there."""
        return fmean(self.values) if self.values else None

    @property
    def sd(self) -> float | None:
        """Sample standard deviation over seeds; None for one seed."""
        return stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Cell:
    """Published number and ours, and the distance of each to the reference row of its own source."""

    published: float | None
    ours: Score | None
    published_gap: float | None = None
    our_gap: float | None = None


@dataclass(frozen=True)
class Row:
    """One variant, or its baseline."""

    id: str
    label: str
    cells: dict[str, Cell]
    baseline: bool = False


@dataclass(frozen=True)
class Column:
    """One probe: its name in the paper and what it is here."""

    id: str
    label: str
    dataset: str
    probe: str


@dataclass(frozen=True)
class Table:
    """What is rendered as text, Markdown and HTML."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    published: Published | None
    same_scale: bool
    """Ours was measured on the paper's models and data: the numbers may be compared directly."""
    reference: str | None
    """Label of the row that gaps are measured against; None: against the published number."""


def build_table(result: StudyResult) -> Table:
    """Gather the scores of a study beside the published table that it names.

    Raises:
        SpecError: the file of published numbers is not valid.
    """
    resolved = result.plan.experiment
    experiment = resolved.experiment
    published = read_published(experiment.paper.table) if experiment.paper else None
    columns = tuple(
        Column(
            name, published.columns.get(name, name) if published else name, probe.dataset, probe.kind.replace("_", " ")
        )
        for name, probe in experiment.recipe.evaluate.items()
    )
    same_scale = published is not None and _as_published(resolved)
    rows = _rows(result, columns, published)
    reference = None if same_scale else _reference(rows, published)
    return Table(
        experiment.title or experiment.name,
        columns,
        tuple(_with_gaps(row, reference) for row in rows),
        published,
        same_scale,
        reference.label if reference else None,
    )


def _as_published(resolved: ResolvedExperiment) -> bool:
    """Whether this is the paper's recipe: no profile, and no `--set` that touches it."""
    if resolved.profile_name != PAPER:
        return False
    return resolve(read_experiment(resolved.path), PAPER).experiment.recipe == resolved.experiment.recipe


def _rows(result: StudyResult, columns: tuple[Column, ...], published: Published | None) -> list[Row]:
    plan = result.plan
    rows_of_paper = {row.id: row for row in published.rows} if published else {}
    labels = {v.name: rows_of_paper[v.name].label if v.name in rows_of_paper else v.label for v in plan.variants}
    values = {row.id: row.values for row in rows_of_paper.values()}
    rows = []
    for name, label in labels.items():
        cells = {
            column.id: Cell(values.get(name, {}).get(column.id), _score(result, _cells(plan, name, column.id, False)))
            for column in columns
        }
        rows.append(Row(name, label, cells))
    return rows + _baseline_rows(result, columns, labels)


def _baseline_rows(result: StudyResult, columns: tuple[Column, ...], labels: dict[str, str]) -> list[Row]:
    """A row per baseline; variants that differ in pretraining alone share the one of the first of them."""
    names = list(dict.fromkeys(cell.variant for cell in result.plan.cells if cell.baseline))
    rows = []
    for name in names:
        cells = {c.id: Cell(None, _score(result, _cells(result.plan, name, c.id, True))) for c in columns}
        label = BASELINE_LABEL if len(names) == 1 else f"{BASELINE_LABEL} of {labels[name]}"
        rows.append(Row(f"{name}.random_init", label, cells, baseline=True))
    return rows


def _cells(plan: Plan, variant: str, column: str, baseline: bool) -> list[PlanCell]:
    return [c for c in plan.cells if (c.variant, c.column, c.baseline) == (variant, column, baseline)]


def _score(result: StudyResult, cells: list[PlanCell]) -> Score | None:
    if not cells:
        return None
    records = [result.records[c.stage.fingerprint] for c in cells if c.stage.fingerprint in result.records]
    failures = [result.failed[c.stage.fingerprint] for c in cells if c.stage.fingerprint in result.failed]
    return Score(
        tuple(_number(record.metrics, "top1") for record in records),
        max((int(_number(record.coverage, "n")) for record in records), default=0),
        min((int(_number(record.coverage, "covered")) for record in records), default=0),
        tuple(failures),
    )


def _number(values: Mapping[str, object], key: str) -> float:
    value = values[key]
    assert isinstance(value, int | float), f"{key} of a probe's record is {value!r}"
    return value


def _reference(rows: list[Row], published: Published | None) -> Row | None:
    """The row that gaps are measured against: the best published one, else the baseline."""
    if published:
        known = [row for row in rows if any(cell.published is not None for cell in row.cells.values())]
        return max(known, key=lambda row: sum(cell.published or 0 for cell in row.cells.values()), default=None)
    return next((row for row in rows if row.baseline), None)


def _with_gaps(row: Row, reference: Row | None) -> Row:
    """The row with its distances to `reference`, or to the published numbers where there is none."""
    cells = {}
    for column, cell in row.cells.items():
        ours = cell.ours.mean if cell.ours else None
        if reference is None:
            cells[column] = replace(cell, our_gap=_difference(ours, cell.published))
        elif row is not reference:
            other = reference.cells[column]
            cells[column] = replace(
                cell,
                published_gap=_difference(cell.published, other.published),
                our_gap=_difference(ours, other.ours.mean if other.ours else None),
            )
        else:
            cells[column] = cell
    return replace(row, cells=cells)


def _difference(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b
