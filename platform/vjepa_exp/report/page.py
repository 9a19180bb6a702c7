"""What one report says, gathered before it is written as Markdown and HTML."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml

from vjepa_exp.graph.coincide import coinciding_note
from vjepa_exp.graph.result import CHOSEN, StudyResult
from vjepa_exp.graph.store import Record, Store
from vjepa_exp.report.orderings import Pair, orderings
from vjepa_exp.report.table import Table, build_table
from vjepa_exp.track.starts import Start, read_starts
from vjepa_exp.track.tracker import Tracker


@dataclass(frozen=True)
class Figure:
    """A picture beside the report."""

    path: Path
    title: str
    caption: str
    wide: bool = False
    """Needs the whole width of a page."""


@dataclass(frozen=True)
class StageLine:
    """One stage: what it took, or why it failed."""

    id: str
    purpose: str
    state: str
    seconds: float | None
    failure: str = ""
    starts: tuple[Start, ...] = ()
    page: str | None = None
    """Address of its run in MLflow."""


@dataclass(frozen=True)
class UnreadableLine:
    """Videos of one data set that a stage could not read for one kind of reason."""

    id: str
    dataset: str
    reason: str
    videos: int


@dataclass(frozen=True)
class ChoiceLine:
    """Settings that a sweep chose for one probe, and the score on held-out training videos that it chose by."""

    purpose: str
    chosen: str
    candidates: int
    held_out: int
    top1: float


@dataclass(frozen=True)
class Page:
    """The content of a report.

    Attributes:
        standing: when it was written and what was done then; '' once all is done.
        mlflow: address of the study's run in MLflow, None where nothing shows it in a browser.
        mlflow_note: what has to run for the addresses to open; '' for a server.
        compare: address of the page of MLflow that compares the variants, None where there is none.
        pairs: of rows that the paper orders, and what ours say of them.
    """

    name: str
    table: Table
    profile: str
    differs: str
    substituted: dict[str, str]
    seeds: tuple[int, ...]
    stages: tuple[StageLine, ...]
    unreadable: tuple[UnreadableLine, ...]
    provenance: dict[str, str]
    recipe_yaml: str
    command: str
    standing: str = ""
    mlflow: str | None = None
    mlflow_note: str = ""
    compare: str | None = None
    figures: tuple[Figure, ...] = ()
    choices: tuple[ChoiceLine, ...] = ()
    pairs: tuple[Pair, ...] = ()

    @property
    def failures(self) -> list[StageLine]:
        """Stages without a result."""
        return [stage for stage in self.stages if stage.failure]

    @property
    def restarts(self) -> list[tuple[str, Start]]:
        """Id of a stage and each of its starts but the first."""
        return [(stage.id, start) for stage in self.stages for start in stage.starts[1:]]


def build_page(result: StudyResult, store: Store, command: str) -> Page:
    """Gather a report, still without figures.

    Args:
        result: records of the study's stages.
        store: where what they left lies.
        command: the command that makes this study again.
    """
    resolved = result.plan.experiment
    experiment = resolved.experiment
    tracker = Tracker(result.plan, store, experiment.execution.tracking_uri)
    summary, table = result.summary(), build_table(result)
    return Page(
        experiment.name,
        table,
        resolved.profile_name,
        " ".join(filter(None, (resolved.profile.differs if resolved.profile else "", coinciding_note(result.plan)))),
        resolved.substituted,
        experiment.seeds or (experiment.recipe.seed,),
        _stage_lines(result, store, tracker),
        _unreadable_lines(result),
        _provenance(list(result.records.values())),
        yaml.safe_dump(experiment.to_json(), sort_keys=False, allow_unicode=True, default_flow_style=None, width=100),
        command,
        f"As of {datetime.now(UTC):%Y-%m-%d %H:%M} UTC: {summary}." if summary else "",
        tracker.page(),
        tracker.page_note,
        tracker.compare_page(),
        choices=_choice_lines(result),
        pairs=orderings(table),
    )


def _choice_lines(result: StudyResult) -> tuple[ChoiceLine, ...]:
    lines = []
    for stage in result.plan.stages:
        record = result.records.get(stage.fingerprint)
        if record is None or "candidates" not in record.metrics:
            continue
        metrics = record.metrics
        chosen = {name.removeprefix(CHOSEN): value for name, value in metrics.items() if name.startswith(CHOSEN)}
        text = ", ".join(f"{name} = {value:.4g}" for name, value in chosen.items())
        candidates, held_out = round(metrics["candidates"]), round(metrics["held_out_n"])
        lines.append(ChoiceLine(result.plan.purpose(stage), text, candidates, held_out, metrics["held_out_top1"]))
    return tuple(lines)


def _stage_lines(result: StudyResult, store: Store, tracker: Tracker) -> tuple[StageLine, ...]:
    lines = []
    for stage in result.plan.stages:
        record, failure = result.records.get(stage.fingerprint), result.failed.get(stage.fingerprint, "")
        seconds, starts = record.seconds if record else None, tuple(read_starts(store.path(stage)))
        what = result.plan.purpose(stage)
        lines.append(StageLine(stage.id, what, result.state(stage), seconds, failure, starts, tracker.page(stage)))
    return tuple(lines)


def _unreadable_lines(result: StudyResult) -> tuple[UnreadableLine, ...]:
    return tuple(
        UnreadableLine(stage.id, dataset, reason, videos)
        for stage in result.plan.stages
        if (record := result.records.get(stage.fingerprint)) is not None
        for dataset, kinds in record.unreadable.items()
        for reason, videos in kinds.items()
    )


def _provenance(records: list[Record]) -> dict[str, str]:
    """Code and machine, with every value that occurs (stages may come from several runs)."""

    def values(block: str, key: str) -> str:
        return _each(str(getattr(record, block).get(key) or "") for record in records)

    lines = {
        "vjepa-exp": values("code", "version"),
        "git commit": _each(str(record.code.get("commit") or "")[:12] for record in records),
        "Python": values("environment", "python"),
        "PyTorch": values("environment", "torch"),
        "Ray": values("environment", "ray"),
        "machine": _each(_machine(record) for record in records),
        "run on": _each((record.started or "").partition("T")[0] for record in records),
    }
    return {key: value for key, value in lines.items() if value}


def _machine(record: Record) -> str:
    cores, gpus = record.environment.get("cores"), record.environment.get("gpus") or []
    return ", ".join(filter(None, (record.environment.get("cpu"), cores and f"{cores} cores", *dict.fromkeys(gpus))))


def _each(values: Iterable[str]) -> str:
    """Every value that occurs, once."""
    return ", ".join(dict.fromkeys(value for value in values if value))
