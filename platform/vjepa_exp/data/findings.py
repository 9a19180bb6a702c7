"""What a long look at many files finds, kept on disk while it goes on: a killed one continues where it was."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import json as arrow_json

from vjepa_exp.data.guard import Each, Lost
from vjepa_exp.data.remote import is_remote, stat
from vjepa_exp.spec.errors import UserError

Found = dict[str, Any]
"""What is found about a file: column -> value."""
Progress = Callable[[int, int], None]

_MARKS = pa.schema([("_file", pa.string()), ("_bytes", pa.int64()), ("_changed", pa.int64()), ("_as", pa.string())])
_TAIL = 2**16  # longer than a line
_ASKED_AT_ONCE = 16


@dataclass(frozen=True)
class Look:
    """What is done with every file.

    Attributes:
        work: takes an absolute path or a URI; importable, as other processes do it.
        lost: what stands for a result where there is none: takes the path and the reason.
        columns: of the results.
        settings: whatever else decides a result.
        made: the file that the work makes of one, for work that makes files: its results hold as long as what they
            tell of is there, with as many `bytes`. Those that are not `decodable` are tried again by the next call.
    """

    work: Callable[[str], Found]
    lost: Callable[[str, str], Found]
    columns: pa.Schema
    settings: str = ""
    made: Callable[[str], str] | None = None

    @property
    def version(self) -> str:
        """Results of another version are not used again."""
        return hashlib.sha256((self.columns.to_string() + self.settings).encode()).hexdigest()[:8]


def look_at(
    files: Sequence[str], look: Look, each: Each, *, kept: Path | None = None, progress: Progress | None = None
) -> pa.Table:
    """Do the same work on every file.

    Args:
        files: absolute paths or URIs, none twice.
        look: the work.
        each: how it is spread over processes.
        kept: where results are kept as they come; those that it holds for files as they are now are not made again.
            Whoever has written down what came of them removes it with `forget`; where the work makes files it stays.
            None: a killed look starts anew.
        progress: called with (files done, files in all).

    Returns:
        `look.columns`, a row for each file in the order of `files`.

    Raises:
        UserError: another process is at work on `kept`, or it cannot be written.
    """
    progress = progress or (lambda done, total: None)
    with _notes(kept) as notes:
        todo = np.flatnonzero(~_holding(files, _read(notes, look), look))
        done = len(files) - len(todo)
        progress(done, len(files))
        names = [files[number] for number in todo.tolist()]
        for number, result in each(partial(_stamped, look.work), names):
            name = names[number]
            if isinstance(result, Lost):
                result = *stamp(name), look.lost(name, result.reason)
            _write(notes, name, *result, look.version)
            done += 1
            progress(done, len(files))
        table = _read(notes, look)
        rows = _last(files, table)
    return table.select(look.columns.names).take(rows)


def forget(kept: Path) -> None:
    """Remove what a look kept, once its results stand where they belong: until then a kill must not cost them."""
    kept.unlink(missing_ok=True)


def _stamped(work: Callable[[str], Found], path: str) -> tuple[int, int, Found]:
    """A result and what it is of: a file that changes meanwhile will be looked at again."""
    return *stamp(path), work(path)


def stamp(path: str) -> tuple[int, int]:
    """What differs when a file does: its bytes, and the time of its last change (ns) or a digest of its version.

    (-1, 0) where there is no file.

    Raises:
        UserError: the server of a remote file cannot be asked.
    """
    try:
        if is_remote(path):
            size, version = stat(path)
            return size or 0, int(version[:15], 16)
        status = os.stat(path)  # noqa: PTH116 (millions of Path objects take seconds)
    except OSError:
        return -1, 0
    return status.st_size, status.st_mtime_ns


@contextmanager
def _notes(kept: Path | None) -> Iterator[BinaryIO]:
    """The file of results, for this process alone, without the last line if a killed process left a part of it."""
    if kept is None:
        with tempfile.TemporaryFile() as notes:
            yield cast("BinaryIO", notes)
        return
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        file = kept.open("a+b")
    except OSError as error:
        raise UserError(f"{kept} cannot be written: {error.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{kept} is in use: another command works on these files now") from None
        end = file.seek(0, os.SEEK_END)
        start = file.seek(max(0, end - _TAIL))
        file.truncate(start + file.read().rfind(b"\n") + 1)
        yield file


def _write(notes: BinaryIO, name: str, size: int, changed: int, found: Found, version: str) -> None:
    line = {"_file": name, "_bytes": size, "_changed": changed, "_as": version, **found}
    notes.seek(0, os.SEEK_END)
    notes.write(json.dumps(line).encode() + b"\n")
    notes.flush()


def _read(notes: BinaryIO, look: Look) -> pa.Table:
    """All results of this version, the newest first."""
    schema = pa.schema([*_MARKS, *look.columns])
    if notes.seek(0, os.SEEK_END) == 0:
        return schema.empty_table()
    notes.seek(0)
    options = arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    table = arrow_json.read_json(notes, parse_options=options)
    newest_first = table.take(np.arange(len(table))[::-1])
    return newest_first.filter(pc.equal(newest_first["_as"], look.version))


def _last(files: Sequence[str], table: pa.Table) -> pa.Array:
    """Row of each file's newest result, null where there is none."""
    return pc.index_in(pa.array(files, pa.string()), value_set=table["_file"])


def _holding(files: Sequence[str], table: pa.Table, look: Look) -> npt.NDArray[np.bool_]:
    """Which of the files are still what their newest result is of, and so is what was made of them."""
    holds = np.zeros(len(files), dtype=np.bool_)
    rows = _last(files, table)
    size, changed = table["_bytes"].to_pylist(), table["_changed"].to_pylist()
    there = _there(table, look)
    looked = [(number, row) for number, row in enumerate(rows.to_pylist()) if row is not None]
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:  # a server takes its time
        stamps = pool.map(stamp, (files[number] for number, _ in looked))
        for (number, row), now in zip(looked, stamps, strict=True):
            holds[number] = now == (size[row], changed[row]) and there(row)
    return holds


def _there(table: pa.Table, look: Look) -> Callable[[int], bool]:
    """Whether the file that a result tells of is there."""
    made = look.made
    if made is None:
        return lambda row: True
    names, good, size = (table[name].to_pylist() for name in ("_file", "decodable", "bytes"))
    return lambda row: bool(good[row]) and stamp(made(names[row]))[0] == size[row]
