"""The paper's numbers: facts that stand beside ours, read from `experiments/paper/tableN.yaml`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import vjepa_exp
from vjepa_exp.spec.document import read_yaml


@dataclass(frozen=True)
class PublishedRow:
    """One row of a published table; `values` in percent by column."""

    id: str
    label: str
    values: dict[str, float]


@dataclass(frozen=True)
class Published:
    """One published table."""

    number: int
    title: str
    columns: dict[str, str]
    """Column id -> label."""
    rows: tuple[PublishedRow, ...]


def experiments_folder() -> Path:
    """The experiments that travel with the package: inside a wheel, or beside the source roots of a checkout."""
    package = Path(vjepa_exp.__file__).parent
    inside = package / "_experiments"
    return inside if inside.is_dir() else package.parents[1] / "experiments"


def read_published(number: int) -> Published | None:
    """The published table, None where its numbers are not part of the project.

    Raises:
        SpecError: the file is not valid YAML.
    """
    path = experiments_folder() / "paper" / f"table{number}.yaml"
    if not path.is_file():
        return None
    data = read_yaml(path).data
    columns = {column["id"]: column["label"] for column in data["columns"]}
    return Published(number, data["title"], columns, tuple(_row(row) for row in data["rows"]))


def _row(row: dict[str, Any]) -> PublishedRow:
    values = {column: float(value) for column, value in row["values"].items() if value is not None}
    return PublishedRow(row["id"], row["label"], values)
