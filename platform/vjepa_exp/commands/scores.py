"""The table of a study on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from vjepa_exp.report.table import Cell, Row, Table
from vjepa_exp.report.words import coverage, gap, gap_note, percent, scale_note, score


def print_scores(table: Table, out: Console) -> None:
    """Print the table with its notes; the paper's numbers are set apart by name and style."""
    grid = RichTable(title=table.title, title_justify="left", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    grid.add_column("")
    for column in table.columns:
        if table.published:
            grid.add_column(Text(f"paper\n{column.label}", "dim italic"), justify="right")
        grid.add_column(Text(f"here\n{column.dataset}", "bold"), justify="right")
    for row in table.rows:
        grid.add_row(*_cells(table, row))
    out.print(grid)
    covered = {coverage(cell.ours) for row in table.rows for cell in row.cells.values() if cell.ours}
    same = f" Every score covers {covered.pop()}." if len(covered) == 1 and "" not in covered else ""
    notes = [f"Top-1 in percent.{same}", scale_note(table), gap_note(table)]
    out.print(Text("\n".join(note for note in notes if note), "dim"))


def _cells(table: Table, row: Row) -> list[Text]:
    alike = len({coverage(cell.ours) for r in table.rows for cell in r.cells.values() if cell.ours}) == 1
    cells = [Text(row.label)]
    for column in table.columns:
        cell = row.cells[column.id]
        if table.published:
            cells.append(Text(_with_gap(percent(cell.published), cell.published_gap), "dim italic"))
        cells.append(Text(_ours(cell, alike), "" if row.baseline else "bold"))
    return cells


def _ours(cell: Cell, covers_the_same: bool) -> str:
    text = _with_gap(score(cell.ours), cell.our_gap)
    return text if covers_the_same else "\n".join(filter(None, (text, coverage(cell.ours))))


def _with_gap(number: str, distance: float | None) -> str:
    return number if distance is None else f"{number}\nΔ {gap(distance)}"
