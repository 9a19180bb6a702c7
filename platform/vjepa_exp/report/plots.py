"""The paper's figures as plots: what was published and what was measured here, side by side, each in its own axes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Literal

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from vjepa_exp.graph.result import StudyResult
from vjepa_exp.graph.store import Store
from vjepa_exp.report.canvas import COLOURS, DPI, GREY, save, style, widen
from vjepa_exp.report.page import Figure
from vjepa_exp.report.points import Point, Side, is_timed, our_side, paper_side
from vjepa_exp.report.table import Table
from vjepa_exp.spec.published import Panel, Plot, PublishedTable

LEAST_RANGE = 5.0
"""Percentage points that an axis spans at least."""
MARKERS = {True: "o", False: "s"}
"""Of the paper's points, of ours."""


def draw_plot(result: StudyResult, table: Table, store: Store, folder: Path) -> Figure | None:
    """Write the study's figure of the paper into `folder`; None where it stands beside a table, or has no point."""
    published = table.published
    plot = published.plot if published else None
    if published is None or plot is None or plot.y not in {column.id for column in table.columns}:
        return None
    sides = paper_side(published, plot), our_side(result, table, plot, store)
    drawn = [side for side in sides if side.points]
    if not drawn:
        return None
    drawing = Drawing(table, published, plot, result.plan.experiment.profile_name, timed=is_timed(result, plot))
    canvas = drawing.panels(drawn) if plot.panels else drawing.plane(drawn)
    path = folder / f"{published.name}.png"
    save(canvas, path)
    return Figure(path, f"{published.heading}: {published.title}", drawing.caption(sides), wide=True)


class Drawing:
    """One figure of the paper for one study."""

    def __init__(self, table: Table, published: PublishedTable, plot: Plot, profile: str, *, timed: bool) -> None:
        self._table, self._published, self._plot, self._profile, self._timed = table, published, plot, profile, timed

    def plane(self, sides: Sequence[Side]) -> Canvas:
        """Accuracy against a column: a picture for each source, a colour for each row."""
        canvas = Canvas(figsize=(9.6, 4.4), layout="constrained", dpi=DPI)
        grid = canvas.subplots(1, len(sides), squeeze=False, sharey=self._table.same_scale)[0]
        labels = list(dict.fromkeys(point.label for side in sides for point in side.points))
        known = dict[str, Artist]()
        for axes, side in zip(grid, sides, strict=True):
            minutes = self._timed and not side.is_paper and max(point.x or 0 for point in side.points) < 1
            for point in side.points:
                colour = COLOURS[labels.index(point.label) % len(COLOURS)]
                if point.x is None:
                    axes.axhline(point.y, color=colour, label=point.label, linestyle="--", linewidth=1.4)
                    _say(axes, point.label, point.y, colour, "left")
                else:
                    _mark(axes, [point], [point.x * (60 if minutes else 1)], side, colour, label=point.label)
            if any(point.x is not None for point in side.points):
                self._across(axes)
            else:
                axes.set_xticks([])
            self._finish(axes, side, self._x_label(side, minutes=minutes))
            axes.set_title(self._source(side), fontsize="medium", loc="left")
            handles, names = axes.get_legend_handles_labels()
            known |= dict(zip(names, handles, strict=True))
        canvas.legend([known[label] for label in labels], labels, loc="outside lower center", ncols=4, frameon=False)
        return canvas

    def panels(self, sides: Sequence[Side]) -> Canvas:
        """A row of panels for each source; in a panel, points of one line are joined."""
        panels = self._plot.panels
        size = (3.7 * len(panels), 0.4 + 3.0 * len(sides))
        canvas = Canvas(figsize=size, layout="constrained", dpi=DPI)
        share: Literal["all", "row"] = "all" if self._table.same_scale else "row"
        grid = canvas.subplots(len(sides), len(panels), squeeze=False, sharey=share)
        for row, side in zip(grid, sides, strict=True):
            for axes, panel in zip(row, panels, strict=True):
                self._panel(axes, panel, side)
                axes.set_title(f"({panel.id}) {panel.title}", fontsize="medium", loc="left")
            for axes, panel in zip(row, panels, strict=True):  # the range that they share is known now
                self._finish(axes, side, panel.x)
            row[0].set_ylabel(f"{self._source(side)}\n{row[0].get_ylabel()}")
            for axes in row[1:]:
                axes.set_ylabel("")
        return canvas

    def caption(self, sides: tuple[Side, Side]) -> str:
        """What the marks mean, and what is not drawn and why."""
        paper, ours = sides
        parts = []
        if any((point.at or point.x is not None) and not point.earlier for point in paper.points):
            parts.append("Circles: as published.")
        if any(point.earlier for point in paper.points):
            parts.append("Hollow circles, dashed: the earlier version of the paper (ICLR 2024 submission), other runs.")
        if ours.points:
            repeated = any(point.sd is not None for point in ours.points)
            parts.append(f"Squares: here{', mean and standard deviation over seeds' if repeated else ''}.")
            if not self._table.same_scale:
                parts.append(f"Here is another scale (profile {self._profile}): each source has axes of its own.")
        if self._timed and any(point.x is not None for point in ours.points):
            parts.append("Time here: the median time of a step times the steps, on the machine of this run.")
        if self._plot.x:
            levels = {"paper": paper.points, "here": ours.points}
            found = [name for name, points in levels.items() if any(point.x is None for point in points)]
            parts += [f"Dashed level ({', '.join(found)}): {self._label(self._plot.x)} not given."] if found else []
        for where, side in (("of the paper", paper), ("here", ours)):
            reasons = [f"{', '.join(self._runs(labels))} ({reason})" for reason, labels in side.missing.items()]
            parts += [f"Not drawn {where}: {'; '.join(reasons)}."] if reasons else []
        return " ".join(parts)

    def _runs(self, names: Sequence[str]) -> Iterator[str]:
        """Names with the settings that follow each other as one: 'M16 to M20', 'M24'."""
        order = [row.id for row in self._published.rows]
        places = {name: order.index(name) if name in order else -2 * i for i, name in enumerate(names, start=1)}
        for _, run in groupby(enumerate(names), key=lambda pair: places[pair[1]] - pair[0]):
            together = [name for _, name in run]
            yield from together if len(together) < 3 else [f"{together[0]} to {together[-1]}"]

    def _panel(self, axes: Axes, panel: Panel, side: Side) -> None:
        places = [row.at for row in self._published.rows if row.at and row.at.panel == panel.id]
        lines = list(dict.fromkeys(place.line for place in places))
        axes.set_xticks(sorted({place.x for place in places}))
        axes.tick_params(axis="x", labelsize="small")
        axes.margins(x=0.1)
        for number, line in enumerate(lines):
            for earlier in (False, True):
                placed = [(p.at.x, p) for p in side.points if p.at and (p.at.panel, p.at.line) == (panel.id, line)]
                placed = sorted(((x, p) for x, p in placed if p.earlier == earlier), key=lambda pair: pair[0])
                if placed:
                    across, points = [x for x, _ in placed], [p for _, p in placed]
                    _mark(axes, points, across, side, COLOURS[number % len(COLOURS)], label=line, earlier=earlier)
        if not axes.containers:
            axes.text(0.5, 0.5, "no numbers", color=GREY, ha="center", va="center", transform=axes.transAxes)
        elif any(lines):
            axes.legend(frameon=False, fontsize="x-small")

    def _finish(self, axes: Axes, side: Side, x: str) -> None:
        column = next(column for column in self._table.columns if column.id == self._plot.y)
        if not side.is_paper and column.chance is not None:
            axes.axhline(column.chance, color=GREY, linewidth=1.2, linestyle=":")
            _say(axes, "chance", column.chance, GREY, "right")
        widen(axes, LEAST_RANGE)
        style(axes, x, f"{self._label(self._plot.y)} (%)" if side.is_paper else f"{column.dataset} (%)")

    def _across(self, axes: Axes) -> None:
        axes.margins(x=0.15, y=0.15)
        if self._plot.log:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))

    def _x_label(self, side: Side, *, minutes: bool) -> str:
        label = self._label(self._plot.x or "")
        if all(point.x is None for point in side.points):
            return f"{label}: not {'printed' if side.is_paper else 'measured'}"
        return f"pretraining time here ({'minutes' if minutes else 'hours'})" if self._is_measured(side) else label

    def _is_measured(self, side: Side) -> bool:
        return self._timed and not side.is_paper

    def _label(self, column: str) -> str:
        return next(known.label for known in self._published.columns if known.id == column)

    def _source(self, side: Side) -> str:
        if side.is_paper:
            return "published" if self._table.same_scale else "published (paper scale)"
        return "here" if self._table.same_scale else f"here ({self._profile} scale)"


def _say(axes: Axes, text: str, y: float, colour: str, end: Literal["left", "right"]) -> None:
    """Words on a level, at one end of it."""
    coordinates = ("axes fraction", "data")
    x = 0.01 if end == "left" else 0.99
    axes.annotate(text, (x, y), xycoords=coordinates, ha=end, va="bottom", fontsize="small", color=colour)


def _mark(
    axes: Axes,
    points: Sequence[Point],
    across: Sequence[float],
    side: Side,
    colour: str,
    *,
    label: str,
    earlier: bool = False,
) -> None:
    """Points joined by a line, with bars of one standard deviation where there are several seeds."""
    axes.errorbar(
        across,
        [point.y for point in points],
        yerr=[point.sd or 0 for point in points] if any(point.sd for point in points) else None,
        color=colour,
        label=label or None,
        marker=MARKERS[side.is_paper],
        markersize=7,
        markerfacecolor="white" if earlier else colour,
        linestyle="none" if len(points) == 1 else "--" if earlier else "-",
        linewidth=1.4,
        capsize=3,
    )
