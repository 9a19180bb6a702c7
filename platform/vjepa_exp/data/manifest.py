"""The manifest: one row per file of a data set, stored as parquet. What a file holds is found by `index`, not here."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vjepa_exp.data.remote import Remote, Root, is_remote, join
from vjepa_exp.spec.datasets import MANIFEST_FORMAT
from vjepa_exp.spec.errors import UserError

Split = Literal["train", "val"]
SPLITS: tuple[Split, ...] = ("train", "val")
UNLABELLED = -1
IMAGE = "image"
"""What stands in the column `readers` for an image."""

_FEW, _SOME = (pa.dictionary(index, pa.string()) for index in (pa.int8(), pa.int32()))  # held once for many rows
_SCHEMA = pa.schema(
    [
        ("path", pa.string()),  # relative to the manifest's root, '/' between folders
        ("label", pa.int32()),
        ("split", _FEW),
        ("frames", pa.int32()),
        ("fps", pa.float32()),
        ("width", pa.int32()),  # as displayed, after rotation
        ("height", pa.int32()),
        ("codec", _FEW),
        ("bytes", pa.int64()),
        ("decodable", pa.bool_()),
        ("reason", _SOME),  # why not decodable, else empty
        ("readers", _FEW),  # which of them return exactly the frames that were asked for, fastest first: "a,b"
    ]
)
FILE_COLUMNS = pa.schema(
    [
        pa.field(column.name, pa.string() if pa.types.is_dictionary(column.type) else column.type)
        for column in _SCHEMA
        if column.name not in ("path", "label", "split")
    ]
)
"""What describes a file itself, as `probe` finds it."""
_FORMAT = f"vjepa-exp manifest {MANIFEST_FORMAT}".encode()
_ROWS = 16_384  # read at a time


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
        root: the folder that relative paths count from, of this machine or remote.
        classes: class names by label.
        provenance: of a set that was made from another one: which, and how; empty for others.
    """

    table: pa.Table
    root: Root
    classes: tuple[str, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def local_root(self) -> Path:
        """The folder that holds the data set, for work that reads files where they lie.

        Raises:
            UserError: the set lies elsewhere.
        """
        if not isinstance(self.root, Path):
            raise UserError(f"the data set lies in {self.root}: copy it to a folder and index that one")
        return self.root

    @staticmethod
    def from_columns(columns: Mapping[str, Any], root: Root, classes: tuple[str, ...]) -> Manifest:
        """A manifest of all its columns, each an array with a value for every file."""
        table = pa.table({name: columns[name] for name in _SCHEMA.names})
        return Manifest(table.cast(_SCHEMA), root, classes)

    @staticmethod
    def from_rows(rows: Sequence[Mapping[str, Any]], root: Root, classes: tuple[str, ...]) -> Manifest:
        """A manifest of rows that each give every column."""
        return Manifest(pa.Table.from_pylist(rows, schema=_SCHEMA), root, classes)

    def __len__(self) -> int:
        return self.table.num_rows

    def column(self, name: str) -> npt.NDArray[Any]:
        """A column as an array [rows]."""
        return self.table[name].to_numpy()

    def entry(self, row: int) -> Entry:
        """One row, its path made absolute, or a URI."""
        path, *rest = (self.table[name][row].as_py() for name in Entry._fields)
        return Entry(join(self.root, path), *rest)

    def readable(self, split: Split) -> npt.NDArray[np.int32]:
        """Ascending numbers of the rows of a split whose files could be read when they were indexed."""
        return np.flatnonzero(self._holding("split", split) & self.column("decodable")).astype(np.int32)

    def subset(self, split: Split) -> Manifest:
        """The rows of one split, in the same order."""
        return self._where(self._holding("split", split))

    def decodable(self) -> Manifest:
        """The rows of files that could be read when they were indexed."""
        return self._where(self.column("decodable"))

    def take(self, rows: npt.NDArray[np.int64]) -> Manifest:
        """The given rows in the given order."""
        return replace(self, table=self.table.take(pa.array(rows)).combine_chunks())

    def without(self, paths: pa.Array) -> tuple[Manifest, Manifest]:
        """The rows of all other paths, and those of the given ones, both in the same order."""
        given = pc.is_in(self.table["path"], value_set=paths).to_numpy()
        return self._where(~given), self._where(given)

    def images(self) -> npt.NDArray[np.bool_]:
        """Which rows are images, [rows]."""
        return self._holding("readers", IMAGE)

    def unreadable(self) -> list[tuple[str, str]]:
        """Path and reason of every file that could not be read when it was indexed."""
        bad = self._where(~self.column("decodable")).table
        paths = [join(self.root, path) for path in bad["path"].to_pylist()]
        return list(zip(paths, bad["reason"].to_pylist(), strict=True))

    def _holding(self, name: str, text: str) -> npt.NDArray[np.bool_]:
        chunks = [holds(chunk, text) for chunk in self.table[name].chunks]
        return np.concatenate(chunks) if chunks else np.zeros(0, dtype=np.bool_)

    def _where(self, mask: npt.NDArray[np.bool_]) -> Manifest:
        return self if mask.all() else replace(self, table=self.table.filter(pa.array(mask)))


def holds(column: pa.DictionaryArray, text: str) -> npt.NDArray[np.bool_]:
    """Which rows of a column hold a text, [rows]; no text is copied for it."""
    texts: list[str] = column.dictionary.to_pylist()
    code = texts.index(text) if text in texts else -1
    return np.equal(column.indices.to_numpy(), code)


def read_manifest(path: Path) -> Manifest:
    """Read a manifest.

    Raises:
        UserError: the file is missing, cannot be read, or is no manifest.
    """
    return _read(path, None, _SCHEMA.names)


def read_entries(path: Path, split: Split) -> Manifest:
    """Read what loading the clips of one split needs: half the memory of all rows and columns.

    Raises:
        UserError: as `read_manifest`.
    """
    return _read(path, split, [name for name in _SCHEMA.names if name in Entry._fields or name == "split"])


def require_labelled(dataset: str, path: Path) -> None:
    """Refuse a data set that no probe can be trained and tested on.

    Raises:
        UserError: a split is empty or holds files without a label; or as `read_manifest`.
    """
    manifest = _read(path, None, ["split", "label"])
    for split in SPLITS:
        labels = manifest.subset(split).column("label")
        if not len(labels):
            raise UserError(
                f"data set '{dataset}' has no file in its {split} split, and a probe needs both: index it again with "
                "--val SOURCE, or from a CSV with a column split"
            )
        if count := int((labels == UNLABELLED).sum()):
            raise UserError(
                f"data set '{dataset}' has {count} files without a label in its {split} split, and a probe needs one "
                "for each: index it again from class folders, or from a CSV with labels"
            )


def _read(path: Path, split: Split | None, columns: list[str]) -> Manifest:
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            _require_format(schema, path)
            batches = list(_batches(file, split, columns))
    except FileNotFoundError:
        raise UserError(f"manifest {path} does not exist; make it with: vjepa-exp data index") from None
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"manifest {path} cannot be read: {str(error).splitlines()[0]}") from None
    table = pa.Table.from_batches(batches, pa.schema([_SCHEMA.field(name) for name in columns]))
    name = schema.metadata[b"root"].decode()
    root = Remote(name) if is_remote(name) else (path.parent / name).resolve()
    provenance = json.loads(schema.metadata.get(b"provenance", b"{}"))
    return Manifest(table, root, tuple(json.loads(schema.metadata[b"classes"])), provenance)


def _batches(file: pq.ParquetFile, split: Split | None, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """The rows a few at a time: what is not wanted of them, and what reading them takes, never adds up."""
    for batch in file.iter_batches(_ROWS, columns=columns, use_threads=False):
        yield batch if split is None else batch.filter(pa.array(holds(batch["split"], split)))
        pa.default_memory_pool().release_unused()


def _require_format(schema: pa.Schema, path: Path) -> None:
    metadata = schema.metadata or {}
    if metadata.get(b"format") != _FORMAT or schema.remove_metadata() != _SCHEMA:
        what = "of another version of vjepa-exp" if b"format" in metadata else "no manifest"
        raise UserError(f"{path} is {what}; make it anew with: vjepa-exp data index FOLDER_OR_CSV --out {path.stem}")


def _written(root: Root, folder: Path) -> str:
    if isinstance(root, Remote):
        return root.uri
    root = root.resolve()
    return (root.relative_to(folder) if root.is_relative_to(folder) else root).as_posix()


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write a manifest: all of it or nothing.

    A root at or below the manifest's own folder is written relative to it, so that both can move together.

    Raises:
        UserError: the file cannot be written.
    """
    metadata = {
        b"format": _FORMAT,
        b"root": _written(manifest.root, path.parent.resolve()).encode(),
        b"classes": json.dumps(manifest.classes).encode(),
    }
    if manifest.provenance:
        metadata[b"provenance"] = json.dumps(dict(manifest.provenance), sort_keys=True).encode()
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
