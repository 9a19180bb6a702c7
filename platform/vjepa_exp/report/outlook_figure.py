"""A picture of simulated clusters: GPUs at work over time, for each size and order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vjepa_exp.graph.outlook import Outlook
from vjepa_exp.graph.simulate import Simulation
from vjepa_exp.report.canvas import COLOURS, save, style

DAY = 86_400.0


def draw_outlooks(outlooks: Sequence[Outlook], title: str, path: Path) -> None:
    """Write the picture as PNG: a row for each size; a column for each order, and for lost nodes where any are counted.

    Args:
        outlooks: one for each size.
        title: what was simulated.
        path: the file to write.
    """
    rows = [outlook.named for outlook in outlooks]
    figure = Figure(figsize=(4.2 * len(rows[0]), 2.3 * len(rows) + 1.0), layout="constrained")
    figure.suptitle(title)
    grid = figure.subplots(len(rows), len(rows[0]), sharex="row", sharey="row", squeeze=False)
    for axes_of_row, outlook, runs in zip(grid, outlooks, rows, strict=True):
        for axes, (name, run) in zip(axes_of_row, runs.items(), strict=True):
            _draw(axes, run, name, outlook.least_s / DAY)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(figure, path)


def _draw(axes: Axes, run: Simulation, name: str, limit_days: float) -> None:
    days = [moment.time_s / DAY for moment in run.moments]
    busy = [moment.busy_gpus for moment in run.moments]
    paid = [moment.nodes * run.fleet.gpus_per_node for moment in run.moments]
    axes.fill_between(days, paid, step="post", color=COLOURS[1], alpha=0.5, linewidth=0, label="GPUs that are paid for")
    axes.fill_between(days, busy, step="post", color=COLOURS[0], linewidth=0, label="GPUs in the hands of stages")
    axes.axvline(limit_days, color="black", linestyle=":", linewidth=1, label="no order ends before")
    style(axes, "days", "GPUs")
    axes.set_ylim(0, 1.05 * run.fleet.gpus)
    title = f"{run.fleet.gpus} GPUs, {name}: {run.makespan_s / DAY:.0f} days, {100 * run.utilisation:.0f} %"
    axes.set_title(title, fontsize=9)
