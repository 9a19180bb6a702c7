"""The table of a report as LaTeX: one `table` environment that needs booktabs and nothing else."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

from vjepa_exp.report.page import Page
from vjepa_exp.report.table import Column, Row, Score, Table
from vjepa_exp.report.words import (
    MISSING,
    common_coverage,
    doubt_note,
    gap,
    gap_note,
    percent,
    scale_note,
    score,
    score_note,
    unavailable_note,
)

LETTERS = 52
"""Letters of numbers that fit beside each other on a page with the usual margins; what is more goes below."""
LONG = 28
"""Letters of a label that are folded."""
SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "[": "{[}",  # behind a line break it would be its optional argument, as would a star
    "]": "{]}",
    "*": "{*}",
    "\N{MINUS SIGN}": "$-$",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{GREEK CAPITAL LETTER DELTA}": r"$\Delta$",
    "\N{EM DASH}": "---",
    "\N{EN DASH}": "--",
    "\N{LEFT DOUBLE QUOTATION MARK}": "``",
    "\N{RIGHT DOUBLE QUOTATION MARK}": "''",
    "\N{LEFT SINGLE QUOTATION MARK}": "`",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{MIDDLE DOT}": r"$\cdot$",
    "\N{HORIZONTAL ELLIPSIS}": r"\ldots{}",
}
ACCENTED = {chr(code) for code in range(0xC0, 0x100)} - set("ÐÞðþ\N{MULTIPLICATION SIGN}÷")
"""Letters that every LaTeX has."""


def latex(page: Page) -> str:
    """The table with its caption; the rest of the report is in its other forms."""
    table = page.table
    lines = [
        rf"% \usepackage{{booktabs}} and \input this file. Made by: {' '.join(page.command.split())}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape(' '.join(_caption(page)))}}}",
        rf"\label{{tab:{page.name}}}",
        r"\par\medskip",
        r"\footnotesize",
        r"\setlength{\tabcolsep}{3pt}",
    ]
    for number, columns in enumerate(_blocks(table)):
        lines += [r"\par\medskip"] if number else []
        lines += _tabular(table, columns)
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def escape(text: str) -> str:
    """Text that LaTeX prints as it stands; letters that it has no sign for lose their accents, or become '?'."""
    return "".join(SPECIAL.get(one) or _plain(one) for one in " ".join(text.split()))


def _plain(character: str) -> str:
    if character.isascii() or character in ACCENTED:
        return character
    return unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode() or "?"


def _caption(page: Page) -> Iterator[str]:
    table = page.table
    yield f"{table.title}."
    if table.published:
        yield f"Published: {table.published.heading} of the V-JEPA paper."
    yield f"Here: profile {page.profile}, {_plural('seed', page.seeds)}. {page.differs}".strip()
    if page.substituted:
        yield f"Data sets standing in: {', '.join(f'{o} for {t}' for t, o in page.substituted.items())}."
    said = (scale_note, score_note, gap_note, unavailable_note, doubt_note)
    yield from (note for write in said if (note := write(table)))
    covered = [f"{column.label} {common_coverage(table, column) or _range(table, column)}" for column in table.columns]
    if table.rows:
        yield f"Test clips covered: {'; '.join(covered)}."
    if page.standing:
        yield page.standing


def _plural(word: str, values: Sequence[int]) -> str:
    return f"{word}{'s' if len(values) > 1 else ''} {', '.join(map(str, values))}"


def _range(table: Table, column: Column) -> str:
    """The coverage of a column whose scores differ in it."""
    scores = [row.cells[column.id].ours for row in table.rows]
    covered = {f"{one.covered} of {one.videos}" for one in scores if one and one.by_seed and one.videos}
    return " or ".join(sorted(covered)) or "none"


def _heads(table: Table) -> list[str]:
    if not table.published:
        return ["here", "Δ"]
    return ["paper", "here", "Δ"] if table.same_scale else ["paper", "Δ", "here", "Δ"]


def _tabular(table: Table, columns: Sequence[Column]) -> Iterator[str]:
    heads = _heads(table)
    is_long = max((len(row.label) for row in table.rows), default=0) > LONG
    label, fold = (r"p{.33\linewidth}", r"\raggedright ") if is_long else ("l", "")
    yield rf"\begin{{tabular}}{{{label}{f' *{{{len(heads)}}}{{r}}' * len(columns)}}}"
    yield r"\toprule"
    groups = (escape(_group(table, column)) for column in columns)
    yield _line("", *(rf"\multicolumn{{{len(heads)}}}{{c}}{{{group}}}" for group in groups))
    starts = range(2, 2 + len(heads) * len(columns), len(heads))
    yield " ".join(rf"\cmidrule(lr){{{start}-{start + len(heads) - 1}}}" for start in starts)
    yield _line("", *(escape(head) for head in heads * len(columns)))
    yield r"\midrule"
    for i, row in enumerate(table.rows):
        if row.baseline and not table.rows[i - 1].baseline:
            yield r"\midrule"
        cells = (escape(text) for column in columns for text in _cell(table, row, column))
        yield _line(f"{fold}{escape(row.label)}", *cells)
    if any(column.chance for column in columns):
        yield r"\midrule"
        ours = heads.index("here")
        empty = [""] * len(heads)
        texts = ([*empty[:ours], percent(column.chance), *empty[ours + 1 :]] for column in columns)
        yield _line("chance", *(escape(text) for part in texts for text in part))
    yield r"\bottomrule"
    yield r"\end{tabular}"


def _blocks(table: Table) -> Iterator[list[Column]]:
    """Columns that fit beside each other, at least one."""
    block, letters = list[Column](), 0
    for column in table.columns:
        texts = zip(_heads(table), *(_cell(table, row, column) for row in table.rows), strict=True)
        width = max(sum(max(map(len, column_texts)) + 1 for column_texts in texts), len(_group(table, column)))
        if block and letters + width > LETTERS:
            yield block
            block, letters = [], 0
        block.append(column)
        letters += width
    if block:
        yield block


def _group(table: Table, column: Column) -> str:
    return f"{column.label}, here {column.dataset}" if table.published else column.dataset


def _cell(table: Table, row: Row, column: Column) -> list[str]:
    cell = row.cells[column.id]
    ours, distance = _ours(cell.ours), gap(cell.our_gap)
    if not table.published:
        return [ours, distance]
    if table.same_scale:
        return [percent(cell.published), ours, distance]
    return [percent(cell.published), gap(cell.published_gap), ours, distance]


def _ours(value: Score | None) -> str:
    """Our number in few letters."""
    if value is not None and value.unavailable:
        return "n/a"
    if value is None or value.mean is not None or value.failures:
        return score(value)
    return value.waiting[0].partition(",")[0].partition(" at ")[0] if value.waiting else MISSING


def _line(*texts: str) -> str:
    return rf"{' & '.join(texts)} \\"
