"""The table of a study on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from vjepa_exp.commands.console import prose
from vjepa_exp.report.orderings import orderings
from vjepa_exp.report.table import Gap, Row, Table
from vjepa_exp.report.words import (
    common_coverage,
    coverage,
    doubt_note,
    gap,
    gap_note,
    order_note,
    percent,
    scale_note,
    score,
    score_note,
    unavailable_note,
)


def print_scores(table: Table, out: Console) -> None:
    """Print the table with its notes; the paper's numbers are set apart by name and style."""
    grid = RichTable(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    grid.add_column("")
    for column in table.columns:
        if table.published:
            grid.add_column(Text(f"paper\n{column.label}", "dim italic"), justify="right")
        grid.add_column(Text(f"here\n{column.dataset}", "bold"), justify="right")
    for row in table.rows:
        grid.add_row(*_cells(table, row))
    if any(column.chance for column in table.columns):
        grid.add_row(*_extra(table, "chance", [percent(column.chance) for column in table.columns]))
    if any(common_coverage(table, column) for column in table.columns):
        grid.add_row(*_extra(table, "covered", [common_coverage(table, column) for column in table.columns]))
    out.print(Text(table.title, "bold"))
    out.print(grid)
    notes = [score_note(table), scale_note(table), gap_note(table), unavailable_note(table), doubt_note(table)]
    notes.append(order_note(orderings(table)))
    for note in filter(None, notes):
        prose(out, note)


def _cells(table: Table, row: Row) -> list[Text]:
    cells = [Text(row.label)]
    for column in table.columns:
        cell = row.cells[column.id]
        if table.published:
            cells.append(Text(_with_gap(percent(cell.published), cell.published_gap), "dim italic"))
        own_coverage = "" if common_coverage(table, column) else coverage(cell.ours)
        text = "\n".join(filter(None, (_with_gap(score(cell.ours), cell.our_gap), own_coverage)))
        cells.append(Text(text, "" if row.baseline else "bold"))
    return cells


def _extra(table: Table, label: str, texts: list[str]) -> list[Text]:
    """A row that says something about each column of ours."""
    pairs = [["", text] if table.published else [text] for text in texts]
    return [Text(text, "dim") for text in (label, *(text for pair in pairs for text in pair))]


def _with_gap(number: str, distance: Gap | None) -> str:
    return number if distance is None else f"{number}\nΔ {gap(distance)}"
