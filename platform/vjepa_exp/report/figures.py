"""The pictures of a report: the paper's figure, the masks of each variant, pretraining loss, probe accuracy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from vjepa_exp.graph.result import StudyResult
from vjepa_exp.graph.store import Store
from vjepa_exp.report.canvas import COLOURS, DPI, GREY, save, style, widen
from vjepa_exp.report.mask_strips import draw_masks
from vjepa_exp.report.page import Figure
from vjepa_exp.report.plots import draw_plot
from vjepa_exp.report.table import Table
from vjepa_exp.track.journal import JOURNAL, read_journal

LEAST_RANGE = 20.0
"""Percentage points that an axis of accuracies spans at least."""


class Line(NamedTuple):
    """One curve; lines with one label are repeats over seeds."""

    label: str
    colour: str
    x: list[float]
    values: list[float]


def draw_figures(result: StudyResult, table: Table, store: Store, folder: Path) -> tuple[Figure, ...]:
    """Write every picture that the study has data for into `folder`."""
    figures = [
        draw_plot(result, table, store, folder),
        _masks(result, table, folder),
        _lines(folder / "loss.png", _loss_lines(result, table, store), "Pretraining loss", "step", "loss"),
    ]
    sets = Counter(column.dataset for column in table.columns)
    for column in table.columns:
        lines = _accuracy_lines(result, table, column.id, store)
        several = f", {column.label}" if sets[column.dataset] > 1 else ""
        title = f"Probe accuracy: {column.dataset}{several}"
        path = folder / f"accuracy_{column.id}.png"
        figures.append(_lines(path, lines, title, "epoch", "top-1 (%)", chance=column.chance))
    return tuple(figure for figure in figures if figure)


def colour_of(result: StudyResult) -> Callable[[str], str]:
    """The colour of a variant, the same in all pictures."""
    names = list(dict.fromkeys(variant.name for variant in result.plan.variants))
    return lambda name: COLOURS[names.index(name) % len(COLOURS)]


def _loss_lines(result: StudyResult, table: Table, store: Store) -> list[Line]:
    labels, colour = {row.id: row.label for row in table.rows}, colour_of(result)
    return [
        _line(labels[name], colour(name), store.path(stage), "loss")
        for (name, _), stage in result.plan.pretraining.items()
    ]


def _accuracy_lines(result: StudyResult, table: Table, column: str, store: Store) -> list[Line]:
    colour = colour_of(result)
    return [
        _line(row.label, GREY if row.baseline else colour(row.id), store.path(stage), "top1", x="epoch")
        for row in table.rows
        for stage in row.cells[column].stages
    ]


def _line(label: str, colour: str, folder: Path, metric: str, x: str = "step") -> Line:
    rows = [row for row in read_journal(folder / JOURNAL) if metric in row]
    return Line(label, colour, [row[x] for row in rows], [row[metric] for row in rows])


def _masks(result: StudyResult, table: Table, folder: Path) -> Figure | None:
    if not result.plan.variants:
        return None
    labels = {row.id: row.label for row in table.rows}
    recipes = {labels[variant.name]: variant.recipe for variant in result.plan.variants}
    canvas = draw_masks(recipes)
    save(canvas, folder / "masks.png")
    caption = "One draw per mask, frame by frame. Dark: the context the encoder sees. Light: the targets it predicts."
    return Figure(folder / "masks.png", "Masks", caption, wide=True)


def _lines(path: Path, lines: list[Line], title: str, x: str, y: str, *, chance: float | None = None) -> Figure | None:
    lines = [line for line in lines if line.x]
    if not lines:
        return None
    canvas = Canvas(figsize=(7.2, 3.6), layout="constrained", dpi=DPI)
    axes = canvas.subplots()
    seen: set[str] = set()
    for line in lines:
        marker = "o" if len(line.x) < 3 else None
        name = f"_{line.label}" if line.label in seen else line.label
        axes.plot(line.x, line.values, color=line.colour, label=name, linewidth=1.6, marker=marker)
        seen.add(line.label)
    if chance is not None:
        axes.axhline(chance, color=GREY, linewidth=1.2, linestyle=":", label="chance")
        widen(axes, LEAST_RANGE)
    style(axes, x, y)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(axes.get_legend_handles_labels()[1]) > 1:
        canvas.legend(loc="outside right upper", frameon=False, fontsize="small")
    save(canvas, path)
    seeds = "One line per seed." if len(lines) > len(seen) else ""
    return Figure(path, title, seeds)
