"""Boxes of people in key frames and what they do: a table beside a manifest, one row for each box and action."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from vjepa_exp.spec.errors import UserError

BOXES = pa.schema(
    [
        ("path", pa.string()),  # of the video, as in the manifest
        ("split", pa.string()),
        ("second", pa.float32()),  # of the key frame
        ("x1", pa.float32()),  # corners, as shares of width and height
        ("y1", pa.float32()),
        ("x2", pa.float32()),
        ("y2", pa.float32()),
        ("action", pa.int32()),
        ("person", pa.int32()),
    ]
)
_FORMAT = b"vjepa-exp boxes 1"


@dataclass(frozen=True)
class Boxes:
    """Boxes with their actions.

    Attributes:
        table: the columns of `BOXES`.
        actions: names by number.
        excluded: annotations that the makers of the data set exclude and that are left out.
    """

    table: pa.Table
    actions: dict[int, str]
    excluded: int = 0


def write_boxes(boxes: Boxes, path: Path) -> None:
    """Write the table: all of it or nothing.

    Raises:
        UserError: the file cannot be written.
    """
    metadata = {b"format": _FORMAT, b"actions": json.dumps(boxes.actions).encode()}
    aside = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(boxes.table.replace_schema_metadata(metadata), aside, compression="zstd")
        aside.replace(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from None


def read_boxes(path: Path) -> Boxes:
    """Read such a table.

    Raises:
        UserError: the file is missing, cannot be read, or holds something else.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    metadata = table.schema.metadata or {}
    if metadata.get(b"format") != _FORMAT or table.schema.remove_metadata() != BOXES:
        raise UserError(f"{path} is no table of boxes of this version")
    actions = {int(number): name for number, name in json.loads(metadata[b"actions"]).items()}
    return Boxes(table.replace_schema_metadata(), actions)
