"""The manifest: one row per file of a data set, stored as parquet. What a file holds is found by `index`, not here."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vjepa_exp.spec.datasets import MANIFEST_FORMAT
from vjepa_exp.spec.errors import UserError

Split = Literal["train", "val"]
SPLITS: tuple[Split, ...] = ("train", "val")
UNLABELLED = -1
IMAGE = "image"
"""What stands in the column `readers` for an image."""

_SCHEMA = pa.schema(
    [
        ("path", pa.string()),  # relative to the manifest's root, '/' between folders
        ("label", pa.int32()),
        ("split", pa.string()),
        ("frames", pa.int32()),
        ("fps", pa.float32()),
        ("width", pa.int32()),  # as displayed, after rotation
        ("height", pa.int32()),
        ("codec", pa.string()),
        ("bytes", pa.int64()),
        ("decodable", pa.bool_()),
        ("reason", pa.string()),  # why not decodable, else empty
        ("readers", pa.string()),  # which of them return exactly the frames that were asked for, fastest first: "a,b"
    ]
)
_FORMAT = f"vjepa-exp manifest {MANIFEST_FORMAT}".encode()


class Entry(NamedTuple):
    """One file of a data set."""

    path: str
    label: int
    frames: int
    decodable: bool
    reason: str
    readers: str
    fps: float

    @property
    def is_image(self) -> bool:
        """Whether it is one picture and no video."""
        return self.readers == IMAGE


@dataclass(frozen=True)
class Manifest:
    """The files of a data set in a fixed order; an entry is named by its row.

    Attributes:
        table: one row per file; columns as in the parquet file.
        root: the folder that relative paths count from.
        classes: class names by label.
    """

    table: pa.Table
    root: Path
    classes: tuple[str, ...]

    @staticmethod
    def from_rows(rows: Sequence[Mapping[str, Any]], root: Path, classes: tuple[str, ...]) -> Manifest:
        """A manifest of rows that each give every column."""
        return Manifest(pa.Table.from_pylist(rows, schema=_SCHEMA), root, classes)

    def __len__(self) -> int:
        return self.table.num_rows

    def column(self, name: str) -> npt.NDArray[Any]:
        """A column as an array [rows]."""
        return self.table[name].to_numpy()

    def entry(self, row: int) -> Entry:
        """One row, its path made absolute."""
        path, *rest = (self.table[name][row].as_py() for name in Entry._fields)
        return Entry(str(self.root / path), *rest)

    def subset(self, split: Split) -> Manifest:
        """The rows of one split, in the same order."""
        return self._where(pc.equal(self.table["split"], split))

    def decodable(self) -> Manifest:
        """The rows of files that could be read when they were indexed."""
        return self._where(self.table["decodable"])

    def take(self, rows: npt.NDArray[np.int64]) -> Manifest:
        """The given rows in the given order."""
        return Manifest(self.table.take(pa.array(rows)).combine_chunks(), self.root, self.classes)

    def images(self) -> npt.NDArray[np.bool_]:
        """Which rows are images, [rows]."""
        return pc.equal(self.table["readers"], IMAGE).to_numpy()

    def unreadable(self) -> list[tuple[str, str]]:
        """Path and reason of every file that could not be read when it was indexed."""
        bad = self.table.filter(pc.invert(self.table["decodable"]))
        paths = [str(self.root / path) for path in bad["path"].to_pylist()]
        return list(zip(paths, bad["reason"].to_pylist(), strict=True))

    def _where(self, mask: Any) -> Manifest:
        return Manifest(self.table.filter(mask).combine_chunks(), self.root, self.classes)


def read_manifest(path: Path) -> Manifest:
    """Read a manifest.

    Raises:
        UserError: the file is missing, cannot be read, or is no manifest.
    """
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise UserError(f"manifest {path} does not exist; make it with: vjepa-exp data index") from None
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"manifest {path} cannot be read: {str(error).splitlines()[0]}") from None
    metadata = table.schema.metadata or {}
    if metadata.get(b"format") != _FORMAT or table.schema.remove_metadata() != _SCHEMA:
        what = "of another version of vjepa-exp" if b"format" in metadata else "no manifest"
        raise UserError(f"{path} is {what}; make it anew with: vjepa-exp data index FOLDER_OR_CSV --out {path.stem}")
    root = (path.parent / metadata[b"root"].decode()).resolve()
    return Manifest(table.replace_schema_metadata().combine_chunks(), root, tuple(json.loads(metadata[b"classes"])))


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write a manifest: all of it or nothing.

    A root at or below the manifest's own folder is written relative to it, so that both can move together.

    Raises:
        UserError: the file cannot be written.
    """
    folder, root = path.parent.resolve(), manifest.root.resolve()
    metadata = {
        b"format": _FORMAT,
        b"root": (root.relative_to(folder) if root.is_relative_to(folder) else root).as_posix().encode(),
        b"classes": json.dumps(manifest.classes).encode(),
    }
    aside = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            pq.write_table(manifest.table.replace_schema_metadata(metadata), file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        raise UserError(f"manifest {path} cannot be written: {error.strerror}") from None
