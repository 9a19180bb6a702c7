"""One table of a study: variants down, probes across, the paper's numbers beside ours.

Published numbers and ours are never mixed: under any profile but `paper` they belong to other models, data and clips,
so only the distances within one source are compared.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import NamedTuple

from vjepa_exp.graph.result import DONE, NOT_BEGUN, StudyResult
from vjepa_exp.graph.stage import Stage
from vjepa_exp.report.published import as_published, read_published
from vjepa_exp.spec.experiment import MeanColumn, SamplesColumn
from vjepa_exp.spec.published import PublishedTable

BASELINE_LABEL = "random initialisation"


@dataclass(frozen=True)
class Score:
    """Our top-1 of one cell, and what it covers."""

    by_seed: dict[int, float]
    """Seed -> percentage."""
    videos: int
    """Videos (or images) of the validation split."""
    covered: int
    """The fewest of them that a seed's number covers: what cannot be decoded is left out, never replaced."""
    failures: tuple[str, ...] = ()
    """Why seeds are missing."""
    waiting: tuple[str, ...] = ()
    """Where seeds stand that have neither a number nor failed: 'running, step 3 of 8', 'not begun'."""
    unavailable: str = ""
    """Why nothing can yield this number yet."""

    @property
    def mean(self) -> float | None:
        """Mean over the seeds that are there."""
        return fmean(self.by_seed.values()) if self.by_seed else None

    @property
    def sd(self) -> float | None:
        """Sample standard deviation over seeds; None for one seed."""
        return _spread(self.by_seed.values())


class Gap(NamedTuple):
    """Points above (or below, negative) a reference: mean and standard deviation of the differences seed by seed."""

    mean: float
    sd: float | None = None


@dataclass(frozen=True)
class Cell:
    """Published number and ours, and the distance of each to the reference row of its own source."""

    published: float | None
    ours: Score | None
    stages: tuple[Stage, ...] = ()
    """The probes behind our number, one per seed."""
    published_gap: Gap | None = None
    our_gap: Gap | None = None


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
    chance: float | None
    """What always naming the commonest class of its test videos scores, in per cent; None before any result."""
    is_score: bool = True
    """Its numbers are scores in per cent, and no samples or hours."""


@dataclass(frozen=True)
class Table:
    """What is rendered as text, Markdown and HTML."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    published: PublishedTable | None
    same_scale: bool
    """Ours was measured on the paper's models and data: the numbers may be compared directly."""
    reference: str | None
    """Label of the row that gaps are measured against; None: against the published number."""
    probe_seeds: bool = False
    """What has seeds are the probes: each row has one encoder."""


def build_table(result: StudyResult) -> Table:
    """Gather the scores of a study beside the published table that it names.

    Raises:
        SpecError: the file of published numbers is not valid.
    """
    resolved = result.plan.experiment
    experiment = resolved.experiment
    published = read_published(experiment.paper) if experiment.paper else None
    columns = _columns(result, published)
    same_scale = published is not None and as_published(resolved)
    rows = _rows(result, columns, published)
    scores = [column.id for column in columns if column.is_score]
    reference = None if same_scale else _reference(rows, scores, published)
    return Table(
        experiment.title or experiment.name,
        columns,
        tuple(_with_gaps(row, scores, reference) for row in rows),
        published,
        same_scale,
        reference.label if reference else None,
        any(evaluation.seeds for evaluation in experiment.recipe.evaluate.values()),
    )


def _columns(result: StudyResult, published: PublishedTable | None) -> tuple[Column, ...]:
    """Evaluations and derived columns, in the order of the paper where it has them."""
    experiment = result.plan.experiment.experiment
    labels = {column.id: column.label for column in published.columns} if published else {}
    columns = [
        Column(name, labels.get(name, name), e.dataset, e.kind.replace("_", " "), _chance(result, name))
        for name, e in experiment.recipe.evaluate.items()
    ]
    columns += (
        Column(name, labels.get(name, name), d.kind, d.kind, None, isinstance(d, MeanColumn))
        for name, d in experiment.derived.items()
    )
    places = {name: i for i, name in enumerate(labels)}
    return tuple(sorted(columns, key=lambda column: places.get(column.id, len(places))))


def _rows(result: StudyResult, columns: tuple[Column, ...], published: PublishedTable | None) -> list[Row]:
    """Variants in the order of the plan, then their baselines; equal baselines are one row."""
    of_paper = {row.id: row for row in published.rows} if published else {}
    rows, baselines = list[Row](), dict[tuple[str, ...], Row]()
    for name, own_label in {variant.name: variant.label for variant in result.plan.variants}.items():
        label = of_paper[name].title if name in of_paper else own_label
        values = of_paper[name].values if name in of_paper else {}
        cells = {c.id: _cell(result, name, c.id, values.get(c.id)) for c in columns}
        rows.append(Row(name, label, _with_derived(result, name, cells)))
        cells = {c.id: _cell(result, name, c.id, None, baseline=True) for c in columns}
        stages = tuple(stage.fingerprint for cell in cells.values() for stage in cell.stages)
        if stages:
            row = Row(f"{name}.random_init", f"{BASELINE_LABEL} of {label}", cells, baseline=True)
            baselines.setdefault(stages, row)
    for name, released in result.plan.released.items():
        values = of_paper[name].values if name in of_paper else {}
        rows.append(Row(name, released.label, {c.id: _cell(result, name, c.id, values.get(c.id)) for c in columns}))
    places = {name: i for i, name in enumerate(of_paper)}
    rows.sort(key=lambda row: places.get(row.id, len(places)))
    if len(baselines) == 1:
        return rows + [replace(row, label=BASELINE_LABEL) for row in baselines.values()]
    return rows + list(baselines.values())


def _cell(result: StudyResult, variant: str, column: str, published: float | None, baseline: bool = False) -> Cell:
    wanted = (variant, column, baseline)
    stages = {c.seed: c.stage for c in result.plan.cells if (c.variant, c.column, c.baseline) == wanted}
    reasons = [gap.reason for gap in result.plan.gaps if (gap.variant, gap.column) == (variant, column)]
    if not stages and reasons and not baseline:
        return Cell(published, Score({}, 0, 0, unavailable=reasons[0]))
    return Cell(published, _score(result, stages) if stages else None, tuple(stages.values()))


def _with_derived(result: StudyResult, variant: str, cells: dict[str, Cell]) -> dict[str, Cell]:
    """The cells with those that are computed from others, or from the recipe of a pretraining that is done."""
    derived = dict(cells)
    for name, column in result.plan.experiment.experiment.derived.items():
        if isinstance(column, MeanColumn):
            scores = [cells[other].ours for other in column.of]
            seeds = set.intersection(*(set(score.by_seed) if score else set() for score in scores))
            means = {seed: fmean(score.by_seed[seed] for score in scores if score) for seed in sorted(seeds)}
            derived[name] = replace(cells[name], ours=Score(means, 0, 0))
        elif isinstance(column, SamplesColumn):
            optim = {v.seed: v.recipe.pretrain.optim for v in result.plan.variants if v.name == variant}
            done = {
                seed: o.batch_size * o.iterations / 1e6
                for seed, o in optim.items()
                if result.plan.pretraining[variant, seed].fingerprint in result.records
            }
            derived[name] = replace(cells[name], ours=Score(done, 0, 0))
    return derived


def _score(result: StudyResult, stages: dict[int, Stage]) -> Score:
    pending = [s for s in stages.values() if s.fingerprint not in result.records and s.fingerprint not in result.failed]
    found = {seed: result.records.get(stage.fingerprint) for seed, stage in stages.items()}
    records = {seed: record for seed, record in found.items() if record is not None}
    return Score(
        {seed: record.metrics["top1"] for seed, record in records.items()},
        max((record.coverage["n"] for record in records.values()), default=0),
        min((record.coverage["covered"] for record in records.values()), default=0),
        tuple(result.failed[stage.fingerprint] for stage in stages.values() if stage.fingerprint in result.failed),
        tuple(sorted((_waits(result, stage) for stage in pending), key=lambda text: text == NOT_BEGUN)),
    )


def _waits(result: StudyResult, stage: Stage) -> str:
    """Where a probe without a result stands, or what it waits for."""
    state = result.state(stage)
    for needed in stage.inputs if state == NOT_BEGUN else ():
        if (other := result.state(needed)) not in (*DONE, NOT_BEGUN):
            return f"{needed.kind} {other}"
    return state


def _chance(result: StudyResult, column: str) -> float | None:
    stages = [cell.stage.fingerprint for cell in result.plan.cells if cell.column == column]
    known = [result.records[stage].metrics.get("chance") for stage in stages if stage in result.records]
    return max((chance for chance in known if chance is not None), default=None)


def _reference(rows: list[Row], scores: Collection[str], published: PublishedTable | None) -> Row | None:
    """The row that gaps are measured against: the best published of those that we may have scores of, or the baseline.

    Args:
        rows: of the table.
        scores: columns of scores.
        published: the table of the paper.
    """
    if not published:
        return next((row for row in rows if row.baseline), None)
    cells = {row.id: [row.cells[column] for column in scores] for row in rows}
    known = [row for row in rows if any(_comparable(cell) for cell in cells[row.id])]
    return max(known, key=lambda row: sum(cell.published or 0 for cell in cells[row.id]), default=None)


def _comparable(cell: Cell) -> bool:
    return cell.published is not None and cell.ours is not None and not cell.ours.unavailable


def _with_gaps(row: Row, scores: Collection[str], reference: Row | None) -> Row:
    """The row with the distances of its scores to `reference`, or to the published numbers where there is none."""
    if row is reference:
        return row
    cells = {}
    for column, cell in row.cells.items():
        if column not in scores:
            cells[column] = cell
        elif reference is None:
            cells[column] = replace(cell, our_gap=_gap(cell.ours.mean if cell.ours else None, cell.published))
        else:
            other = reference.cells[column]
            cells[column] = replace(
                cell,
                published_gap=_gap(cell.published, other.published),
                our_gap=gap_by_seed(cell.ours, other.ours),
            )
    return replace(row, cells=cells)


def _gap(a: float | None, b: float | None) -> Gap | None:
    return None if a is None or b is None else Gap(a - b)


def gap_by_seed(a: Score | None, b: Score | None) -> Gap | None:
    """Over the seeds that both have: what a seed does to both is no difference between them."""
    if a is None or b is None or not (shared := a.by_seed.keys() & b.by_seed.keys()):
        return None
    differences = [a.by_seed[seed] - b.by_seed[seed] for seed in shared]
    return Gap(fmean(differences), _spread(differences))


def _spread(values: Collection[float]) -> float | None:
    """Sample standard deviation, None of a single value."""
    return stdev(values) if len(values) > 1 else None
