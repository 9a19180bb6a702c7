"""One table of a study: variants down, probes across, the paper's numbers beside ours.

Published numbers and ours are never mixed: under any profile but `paper` they belong to other models, data and clips,
so only the distances within one source are compared.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import fmean, stdev

from vjepa_exp.graph.result import StudyResult
from vjepa_exp.graph.stage import Stage
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
    stages: tuple[Stage, ...] = ()
    """The probes behind our number, one per seed."""
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
    labels = published.columns if published else {}
    columns = tuple(
        Column(name, labels.get(name, name), probe.dataset, probe.kind.replace("_", " "))
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
    """Variants in the order of the plan, then their baselines; equal baselines are one row."""
    of_paper = {row.id: row for row in published.rows} if published else {}
    rows, baselines = list[Row](), dict[tuple[str, ...], Row]()
    for name, own_label in {variant.name: variant.label for variant in result.plan.variants}.items():
        label = of_paper[name].label if name in of_paper else own_label
        values = of_paper[name].values if name in of_paper else {}
        rows.append(Row(name, label, {c.id: _cell(result, name, c.id, values.get(c.id)) for c in columns}))
        cells = {c.id: _cell(result, name, c.id, None, baseline=True) for c in columns}
        stages = tuple(stage.fingerprint for cell in cells.values() for stage in cell.stages)
        if stages:
            row = Row(f"{name}.random_init", f"{BASELINE_LABEL} of {label}", cells, baseline=True)
            baselines.setdefault(stages, row)
    if len(baselines) == 1:
        return rows + [replace(row, label=BASELINE_LABEL) for row in baselines.values()]
    return rows + list(baselines.values())


def _cell(result: StudyResult, variant: str, column: str, published: float | None, baseline: bool = False) -> Cell:
    wanted = (variant, column, baseline)
    stages = tuple(c.stage for c in result.plan.cells if (c.variant, c.column, c.baseline) == wanted)
    return Cell(published, _score(result, stages) if stages else None, stages)


def _score(result: StudyResult, stages: tuple[Stage, ...]) -> Score:
    records = [result.records[stage.fingerprint] for stage in stages if stage.fingerprint in result.records]
    return Score(
        tuple(record.metrics["top1"] for record in records),
        max((record.coverage["n"] for record in records), default=0),
        min((record.coverage["covered"] for record in records), default=0),
        tuple(result.failed[stage.fingerprint] for stage in stages if stage.fingerprint in result.failed),
    )


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
