"""Looking into the files of a manifest again: what changed since it was made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vjepa_exp.data.findings import Progress, look_at
from vjepa_exp.data.guard import Each, in_turn
from vjepa_exp.data.index import PROBE
from vjepa_exp.data.manifest import FILE_COLUMNS, Manifest
from vjepa_exp.data.remote import join


class Change(NamedTuple):
    """A file that is not what the manifest says."""

    path: str
    what: str


def recheck(
    manifest: Manifest, *, each: Each = in_turn, kept: Path | None = None, progress: Progress | None = None
) -> list[Change]:
    """Probe every file again and compare.

    Args:
        manifest: whose files.
        each: how the work is spread over processes.
        kept: where results are kept as they come, so that a killed call can be continued, until `findings.forget`.
        progress: called with (files done, files in all).

    Raises:
        UserError: another process is at work on `kept`.
    """
    paths = pc.unique(manifest.table["path"])
    found = look_at(
        [join(manifest.root, path) for path in paths.to_pylist()], PROBE, each, kept=kept, progress=progress
    )
    now = found.take(pc.index_in(manifest.table["path"], value_set=paths))
    before = manifest.table.select(FILE_COLUMNS.names).cast(FILE_COLUMNS)
    rows = np.flatnonzero(_differ(before, now))
    names, old, new = (table.take(rows).to_pylist() for table in (manifest.table["path"], before, now))
    described = map(_describe, old, new)
    return list(dict.fromkeys(Change(name, what) for name, what in zip(names, described, strict=True) if what))


def _differ(before: pa.Table, now: pa.Table) -> Any:
    """Mask of the rows in which any column differs, [rows]."""
    differ = np.zeros(len(before), dtype=np.bool_)
    for name in FILE_COLUMNS.names:
        differ |= pc.not_equal(before[name], now[name]).to_numpy()
    return differ


def _describe(before: dict[str, Any], now: dict[str, Any]) -> str:
    if not now["decodable"]:
        if before["decodable"]:
            return f"cannot be read any more: {now['reason']}"
        # Another wording for a file that could not be read before is no change.
        return f"still cannot be read, has {now['bytes']} bytes" if now["bytes"] != before["bytes"] else ""
    return ", ".join(_words(before, now))


def _words(before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    if not before["decodable"]:
        yield "can be read now"
        return
    for name in FILE_COLUMNS.names:
        if before[name] != now[name]:
            yield f"{name} {before[name]} -> {now[name]}"
