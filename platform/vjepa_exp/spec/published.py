"""The paper's numbers as files: one per table or figure below `experiments/paper/`.

They are facts that nobody here measured, so a row carries a digest of its numbers: a number that is edited by hand no
longer fits, and is named with file and line.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from vjepa_exp.spec.base import Name, Spec
from vjepa_exp.spec.document import Document, read_yaml
from vjepa_exp.spec.errors import Problem, SpecError
from vjepa_exp.spec.problems import validate

DIGITS = 12


class Panel(Spec):
    """One of the panels of a figure."""

    id: Name
    title: str
    x: str = Field(description="What is across.")


class Place(Spec):
    """Where the point of a row stands in a figure whose horizontal axis is no column."""

    panel: Name
    x: float
    line: str = Field("", description="Points of one panel with the same text are joined.")


class Plot(Spec):
    """How a figure is drawn."""

    y: Name = Field(description="The column that is up.")
    x: Name | None = Field(None, description="The column that is across; without it every row says `at`.")
    log: bool = Field(False, description="Whether the horizontal axis is logarithmic.")
    panels: tuple[Panel, ...] = ()

    @model_validator(mode="after")
    def _across(self) -> Self:
        if (self.x is None) == (not self.panels):
            raise ValueError("give either 'x' or 'panels'")
        return self


class PublishedColumn(Spec):
    """One column."""

    id: Name
    label: str
    unit: str = "%"


class PublishedRow(Spec):
    """One row; a value that is drawn and not printed is null."""

    id: Name
    label: str
    values: dict[Name, float | None]
    sd: dict[Name, float] = Field({}, description="Standard deviation, as printed.")
    earlier: dict[Name, float] = Field(
        {}, description="What the earlier version of the paper (ICLR 2024 submission) prints. Other runs: never mixed."
    )
    at: Place | None = None
    setting: str = Field("", description="What the row is, where its label does not say it.")
    proposed: bool = Field(False, description="The setting itself is not printed in the final paper.")
    repaired: dict[Name, str] = Field({}, description="Column -> the repair that the number comes from.")
    uncertain: dict[Name, str] = Field({}, description="Column -> why the printed number may be wrong.")
    digest: str

    @property
    def title(self) -> str:
        """The label, behind the letter of its panel."""
        return f"({self.at.panel}) {self.label}" if self.at else self.label

    def fingerprint(self, where: str) -> str:
        """Digest of the numbers of this row of a table or figure ('table4')."""
        numbers = [where, self.id, self.values, self.sd, self.earlier]
        text = json.dumps(numbers, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


class Repair(Spec):
    """A place where the text at hand was damaged, and what was entered instead."""

    id: Name
    where: str
    read: str
    entered: str
    evidence: str


class Doubt(Spec):
    """Something printed that other evidence speaks against."""

    id: Name
    where: str
    doubt: str


class PublishedTable(Spec):
    """One table, or the points of one figure."""

    table: Annotated[int, Field(ge=1, le=16)] | None = None
    figure: Annotated[int, Field(ge=1, le=9)] | None = None
    title: str
    section: str
    protocol: str
    columns: tuple[PublishedColumn, ...] = Field(min_length=1)
    rows: tuple[PublishedRow, ...] = Field(min_length=1)
    plot: Plot | None = None
    repairs: tuple[Repair, ...] = ()
    uncertain: tuple[Doubt, ...] = ()

    @property
    def name(self) -> str:
        """'table4' or 'figure8'."""
        return f"table{self.table}" if self.table else f"figure{self.figure}"

    @property
    def heading(self) -> str:
        """'Table 4' or 'Figure 8'."""
        return f"Table {self.table}" if self.table else f"Figure {self.figure}"

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.table is None) == (self.figure is None):
            raise ValueError("give either 'table' or 'figure'")
        columns = [column.id for column in self.columns]
        panels = [panel.id for panel in self.plot.panels] if self.plot else []
        for axis in (self.plot.x, self.plot.y) if self.plot else ():
            if axis is not None and axis not in columns:
                raise ValueError(f"plot names '{axis}', which is no column")
        known = {repair.id for repair in self.repairs} | {doubt.id for doubt in self.uncertain}
        for i, row in enumerate(self.rows):
            fits = row.at.panel in panels if row.at else not panels
            if not fits:
                raise ValueError(f"rows.{i}.at must name a panel of the plot: {', '.join(panels) or 'it has none'}")
            unknown = [c for part in (row.values, row.sd, row.earlier, row.uncertain, row.repaired) for c in part]
            for column in unknown:
                if column not in columns:
                    raise ValueError(f"rows.{i}.values names '{column}', which is no column")
            for mark in (*row.repaired.values(), *row.uncertain.values()):
                if mark not in known:
                    raise ValueError(f"rows.{i} refers to '{mark}', which is neither a repair nor a doubt of this file")
        return self


def read_published_file(path: Path) -> PublishedTable:
    """Read published numbers and hold every row against its digest.

    Raises:
        SpecError: the file is not valid, or a number was changed.
    """
    document = read_yaml(path)
    table = validate(PublishedTable, document)
    problems = [
        _edited(document, table, i) for i, row in enumerate(table.rows) if row.digest != row.fingerprint(table.name)
    ]
    if table.name != path.stem:
        problems.append(Problem(document.mark(()), "", f"holds {table.name}, by its name it should hold {path.stem}"))
    if problems:
        raise SpecError(problems)
    return table


def _edited(document: Document, table: PublishedTable, i: int) -> Problem:
    row = table.rows[i]
    message = (
        f"row '{row.id}' of {table.heading}: its numbers are not those that were entered from the paper. "
        f"Put them back, or if this is a repair, say so under 'repairs' and set digest: {row.fingerprint(table.name)}"
    )
    return Problem(document.mark(("rows", i, "values")), f"rows.{i}.values", message)
