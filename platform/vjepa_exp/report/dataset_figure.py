"""A picture of a data set: durations, rates, sizes and classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vjepa_exp.data.stats import Numbers, Stats
from vjepa_exp.report.canvas import COLOURS, GREY

TOP = 10
"""Rates and sizes that are drawn by themselves; the rest share a bar."""
BINS = 40


def draw_dataset(stats: Stats, title: str, path: Path) -> None:
    """Write the picture as PNG.

    Args:
        stats: what to draw.
        title: name of the data set.
        path: the file to write.
    """
    figure = Figure(figsize=(11, 7), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    axes = figure.subplots(2, 2)
    videos = "duration (s)" in stats.measures
    _histogram(axes[0, 0], "duration (s)" if videos else "size (MiB)", stats)
    if videos:
        _bars(axes[0, 1], {f"{rate:g}": count for rate, count in stats.rates.items()}, "frames per second")
    else:
        _histogram(axes[0, 1], "short side (pixels)", stats)
    _bars(axes[1, 0], stats.sizes, "width x height")
    _classes(axes[1, 1], stats)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _histogram(axes: Axes, name: str, stats: Stats) -> None:
    """Values up to the 99th percentile; the last bar holds what lies above."""
    values = stats.measures[name].astype(np.float64)
    top = float(np.quantile(values, 0.99))
    clipped = np.minimum(values, top)
    axes.hist(clipped, bins=BINS if np.ptp(clipped) else 1, color=COLOURS[0])
    median = float(np.median(values))
    axes.axvline(median, color=COLOURS[1], linewidth=1, label=f"median {median:.3g}")
    axes.legend(frameon=False)
    above = f" (the last bar: {top:.3g} to {values.max():.3g})" if values.max() > top else ""
    axes.set(xlabel=f"{name}{above}", ylabel="files", title=name.partition(" (")[0])
    _plain(axes)


def _bars(axes: Axes, counts: Mapping[str, int], name: str) -> None:
    """The most frequent values, the first on top."""
    shown = dict(list(counts.items())[:TOP])
    rest = sum(counts.values()) - sum(shown.values())
    if rest:
        shown[f"{len(counts) - TOP} others"] = rest
    colours = [COLOURS[0]] * min(len(counts), TOP) + [GREY]
    bars = axes.barh(list(shown), list(shown.values()), color=colours[: len(shown)])
    total = sum(counts.values())
    shares = [f"{count / total:.0%}" if count >= total / 100 else "<1%" for count in shown.values()]
    axes.bar_label(bars, shares, padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set(xlabel="files", title=name)
    _plain(axes)


def _classes(axes: Axes, stats: Stats) -> None:
    """Files of each class, the largest first."""
    for colour, (split, counts) in zip(COLOURS, stats.labels.items(), strict=False):
        ordered: Numbers = np.sort(counts)[::-1]
        marker = "." if len(ordered) <= 50 else ""
        axes.plot(np.arange(1, len(ordered) + 1), ordered, color=colour, label=split, marker=marker)
    if stats.labels:
        axes.legend(frameon=False)
        axes.set_ylim(bottom=0)
    else:
        axes.text(0.5, 0.5, "no file has a class", ha="center", va="center", transform=axes.transAxes, color=GREY)
    axes.set(xlabel="the largest class first", ylabel="files", title="classes")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
