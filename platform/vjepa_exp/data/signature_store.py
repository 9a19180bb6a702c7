"""Signatures of a data set's files, kept beside its manifest in parts: made once, used against every other set.

Each part is a parquet file of so many videos that one of millions of rows is never held as a whole. A part that is
there is used again for those of its files that are as they were; a part that is being made is continued.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from einops import rearrange

from vjepa_exp.data.findings import Found, Look, Progress, forget, look_at, stamp
from vjepa_exp.data.guard import Each
from vjepa_exp.data.signature import FRAMES, SIDE, Greys, Hashes, signature
from vjepa_exp.spec.errors import UserError

PART = 16_384
_VERSION = b"signatures 1"  # raised when the same file would get another signature
_HASH_BYTES, _GREY_BYTES = 8 * FRAMES, FRAMES * SIDE * SIDE
_FOUND = pa.schema([("hashes", pa.string()), ("grey", pa.string()), ("reason", pa.string())], {b"version": _VERSION})
_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("bytes", pa.int64()),
        ("changed", pa.int64()),
        ("hashes", pa.binary(_HASH_BYTES)),
        ("grey", pa.binary(_GREY_BYTES)),
        ("reason", pa.string()),  # why there is no signature, else empty
    ],
    {b"version": _VERSION},
)


def _look(path: str) -> Found:
    found = signature(path)
    texts = (base64.b64encode(array.tobytes()).decode() for array in (found.hashes, found.grey))
    return dict(zip(_FOUND.names, (*texts, ""), strict=True))


def _lost(path: str, reason: str) -> Found:
    return {"hashes": "", "grey": "", "reason": reason}


LOOK = Look(_look, _lost, _FOUND)


@dataclass(frozen=True)
class SignatureStore:
    """Signatures of some files in a fixed order.

    Attributes:
        folder: of the parts.
        files: how many there are.
    """

    folder: Path
    files: int

    def hashes(self) -> Hashes:
        """Of all files, [N, F]; 0 where a frame is flat or the file has no signature."""
        parts = [self._column(number, "hashes") for number in range(self._parts)]
        rows = [np.frombuffer(part.buffers()[1], dtype=np.uint64) for part in parts]
        return rearrange(np.concatenate([*rows, np.zeros(0, np.uint64)]), "(n f) -> n f", f=FRAMES)

    def grey(self, rows: npt.NDArray[np.int64]) -> Iterator[tuple[npt.NDArray[np.int64], Greys]]:
        """Frames of some files, a part at a time: places in `rows` and their frames [places, F, S, S]."""
        order = np.argsort(rows, kind="stable")
        for number in np.unique(rows // PART).tolist():
            places = order[slice(*np.searchsorted(rows[order], [number * PART, (number + 1) * PART]))]
            pixels = np.frombuffer(self._column(number, "grey").buffers()[1], dtype=np.uint8)
            shape = (-1, FRAMES, SIDE, SIDE)
            yield places, pixels.reshape(shape)[rows[places] - number * PART]

    def unreadable(self) -> list[tuple[str, str]]:
        """Path and reason of every file without a signature."""
        found = list[tuple[str, str]]()
        for number in range(self._parts):
            table = _read(_part(self.folder, number), ["path", "reason"])
            bad = table.filter(pc.not_equal(table["reason"], ""))
            found += zip(bad["path"].to_pylist(), bad["reason"].to_pylist(), strict=True)
        return found

    @property
    def _parts(self) -> int:
        return -(-self.files // PART)

    def _column(self, number: int, name: str) -> pa.Array:
        return _read(_part(self.folder, number), [name])[name].combine_chunks()


def keep_signatures(files: Sequence[str], folder: Path, each: Each, progress: Progress | None = None) -> SignatureStore:
    """Make the signatures that are not there yet.

    Args:
        files: absolute paths, none twice, in the order of the store.
        folder: where it lies, of these files alone.
        each: how the work is spread over processes.
        progress: called with (files done, files in all).

    Raises:
        UserError: another process is at work on it, or it cannot be written.
    """
    for number, start in enumerate(range(0, len(files), PART)):
        part = files[start : start + PART]

        def show(done: int, total: int, before: int = start) -> None:
            if progress is not None:
                progress(before + done, len(files))

        _keep_part(part, _part(folder, number), each, show)
    return SignatureStore(folder, len(files))


def _keep_part(files: Sequence[str], path: Path, each: Each, progress: Progress) -> None:
    before = _unchanged(path)
    rows = pc.index_in(pa.array(files, pa.string()), value_set=before["path"])
    todo = [file for file, row in zip(files, rows.to_pylist(), strict=True) if row is None]
    progress(len(files) - len(todo), len(files))
    if not todo and before["path"].to_pylist() == list(files):
        return
    kept = path.with_suffix(".partial.jsonl")
    new = _made(todo, kept, each, lambda done, total: progress(len(files) - total + done, len(files)))
    table = pa.concat_tables([before, new])
    table = table.take(pc.index_in(pa.array(files, pa.string()), value_set=table["path"]))
    aside = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.replace_schema_metadata(_SCHEMA.metadata), aside, compression="zstd")
        aside.replace(path)
        forget(kept)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from None


def _made(files: Sequence[str], kept: Path, each: Each, progress: Progress) -> pa.Table:
    """Signatures of files that have none, with the marks that tell a file that has changed."""
    marks = [stamp(file) for file in files]  # taken before: what changes meanwhile is looked at again next time
    found = look_at(files, LOOK, each, kept=kept, progress=progress)
    columns = [
        pa.array(files, pa.string()),
        pa.array([size for size, _ in marks], pa.int64()),
        pa.array([changed for _, changed in marks], pa.int64()),
        pa.array(_decoded(found["hashes"].to_pylist(), _HASH_BYTES), pa.binary(_HASH_BYTES)),
        pa.array(_decoded(found["grey"].to_pylist(), _GREY_BYTES), pa.binary(_GREY_BYTES)),
        found["reason"].combine_chunks(),
    ]
    return pa.Table.from_arrays(columns, schema=_SCHEMA)


def _decoded(texts: Sequence[str], size: int) -> list[bytes]:
    return [base64.b64decode(text) if text else bytes(size) for text in texts]


def _unchanged(path: Path) -> pa.Table:
    """The rows of a part whose files are as they were."""
    empty = _SCHEMA.empty_table()
    if not path.is_file():
        return empty
    try:
        table = _read(path)
    except (OSError, pa.ArrowException):
        return empty
    if table.schema != _SCHEMA or (table.schema.metadata or {}).get(b"version") != _VERSION:
        return empty
    marks = zip(table["bytes"].to_pylist(), table["changed"].to_pylist(), strict=True)
    names = table["path"].to_pylist()
    return table.filter(pa.array([stamp(name) == mark for name, mark in zip(names, marks, strict=True)], pa.bool_()))


def _read(path: Path, columns: list[str] | None = None) -> pa.Table:
    with pq.ParquetFile(path) as file:  # the dataset reader would take folders named a=b for columns
        return file.read(columns)


def _part(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.parquet"
