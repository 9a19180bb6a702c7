"""The terminal: results go to the standard output, everything else to the standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

PIPED_WIDTH = 160


def console(stderr: bool = False) -> Console:
    """A console that never marks up what it is given, and does not fold lines in a pipe."""
    watched = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, width=None if watched else PIPED_WIDTH, highlight=False, markup=False, emoji=False)


def prose(out: Console, text: str) -> None:
    """Print a sentence: folded between words for a person, on one line in a pipe."""
    out.print(text, soft_wrap=not out.is_terminal)


def grid(header: Iterable[str], rows: Iterable[Iterable[str]], right: Iterable[int] = ()) -> Table:
    """A plain table; columns in `right` hold numbers."""
    numbers = set(right)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for i, name in enumerate(header):
        table.add_column(Text(name), justify="right" if i in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on the standard error; call the function with (done, total)."""
    out = console(stderr=True)
    with Progress(console=out, transient=True, disable=not out.is_terminal) as bar:
        task = bar.add_task(what)
        yield lambda done, total: bar.update(task, completed=done, total=total)
