"""The terminal: results go to the standard output, everything else to the standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from vjepa_exp.runtime.view import duration

PIPED_WIDTH = 160
PIPED_S = 10.0


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


def columns(header: Sequence[str], rows: Iterable[Sequence[str]], right: Collection[int] = ()) -> str:
    """As `grid`, for hundreds of rows, which rich takes seconds to lay out: aligned text that nothing folds."""
    lines = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = (
        [text.rjust(w) if i in right else text.ljust(w) for i, (text, w) in enumerate(zip(line, widths, strict=True))]
        for line in lines
    )
    return "\n".join("  ".join(line).rstrip() for line in padded)


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """How far a long work is and when it will be done, on the standard error; call the function with (done, total).

    A bar on a terminal, a line every `PIPED_S` seconds in a pipe. What the first call says to be done was done before
    and tells nothing about the speed.
    """
    out = console(stderr=True)
    if not out.is_terminal:
        yield _Lines(what, out)
        return
    with Progress(console=out, transient=True) as bar:
        task, begun = bar.add_task(what, total=None), False

        def show(done: int, total: int) -> None:
            nonlocal begun
            (bar.update if begun else bar.reset)(task, completed=done, total=total)
            begun = True

        yield show


class _Lines:
    """Progress in a pipe. The clock starts with the first result: what comes before it is no measure of the rest."""

    def __init__(self, what: str, out: Console) -> None:
        self._what, self._out = what, out
        self._before: int | None = None
        self._begun: tuple[int, float] | None = None
        self._said = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._before is None:
            self._before = done
        elif self._begun is None and done > self._before:
            self._begun, self._said = (done, now), now
        if self._begun is None or done == self._begun[0] or now - self._said < PIPED_S:
            return
        left = (total - done) * (now - self._begun[1]) / (done - self._begun[0])
        self._out.print(f"{self._what}: {done} of {total}, {duration(left)} left", soft_wrap=True)
        self._said = now
