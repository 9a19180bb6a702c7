"""What all drawings of a report share: colours, axes, PNG files."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas

COLOURS = ("#0b6e99", "#d9730d", "#6940a5", "#448361", "#ad1a72", "#c29243", "#5a6b7b", "#e03e3e")
"""Told apart in print and by colour-blind readers; repeated after eight."""
GREY = "#9aa3ad"
DPI = 160


def style(axes: Axes, x: str, y: str) -> None:
    """Name the axes and leave out what is not read."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6e9ec", linewidth=0.8)
    axes.set_axisbelow(True)


def widen(axes: Axes, least: float) -> None:
    """No axis of percentages that makes a point look like a mountain: it spans at least so many points."""
    low, high = axes.get_ylim()
    more = max(0.0, least - (high - low)) / 2
    axes.set_ylim(max(0.0, low - more), min(100.0, high + more))


def save(canvas: Canvas, path: Path) -> None:
    """Write a PNG."""
    FigureCanvasAgg(canvas).print_png(path)
