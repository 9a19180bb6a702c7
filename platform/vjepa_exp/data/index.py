"""Making a manifest: look into each file of a listing, keep the bad ones with their reason."""

from __future__ import annotations

import dataclasses
import errno
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vjepa_exp.data.cache import local
from vjepa_exp.data.findings import Found, Look, Progress, look_at, stamp
from vjepa_exp.data.guard import Each, in_turn
from vjepa_exp.data.listing import Listing, list_files
from vjepa_exp.data.manifest import FILE_COLUMNS, SPLITS, Manifest, Split
from vjepa_exp.data.probe import FileInfo, probe
from vjepa_exp.data.remote import Root, join


def _probe(path: str) -> Found:
    try:
        with local(path, fresh=True) as copy:
            return dataclasses.asdict(probe(Path(copy)))
    except FileNotFoundError as error:
        return dataclasses.asdict(FileInfo(reason=os.strerror(error.errno or errno.ENOENT)))


def _unprobed(path: str, reason: str) -> Found:
    """A file that killed its process, or kept it too long."""
    return dataclasses.asdict(FileInfo(bytes=max(0, stamp(path)[0]), reason=reason))


PROBE = Look(_probe, _unprobed, FILE_COLUMNS)


def index(
    source: Root,
    *,
    val: Root | None = None,
    root: Root | None = None,
    each: Each = in_turn,
    progress: Progress | None = None,
) -> Manifest:
    """Make the manifest of a user's own data set (see `listing.list_files` for what a source may be).

    Raises:
        UserError: the source does not exist, cannot be understood, or lists no file.
    """
    return index_listing(list_files(source, val=val, root=root), each=each, progress=progress)


def index_listing(
    listing: Listing, *, each: Each = in_turn, kept: Path | None = None, progress: Progress | None = None
) -> Manifest:
    """Look into every file of a listing. One that cannot be decoded is listed with the reason.

    Args:
        listing: the files; one that stands in it twice is looked into once.
        each: how the work is spread over processes.
        kept: where results are kept as they come, so that a killed call can be continued; to be removed with
            `findings.forget` when the manifest is written.
        progress: called with (files done, files in all).

    Raises:
        UserError: another process is at work on `kept`.
    """
    paths = pc.unique(listing.table["path"])
    files = [join(listing.root, path) for path in paths.to_pylist()]
    found = look_at(files, PROBE, each, kept=kept, progress=progress)
    rows = pc.index_in(listing.table["path"], value_set=paths)
    table = pa.table({**_columns(listing.table), **_columns(found.take(rows))})
    return Manifest.from_columns(_columns(table), listing.root, listing.classes)


def split_missing(manifest: Manifest) -> tuple[Manifest, dict[Split, int]]:
    """Leave out training files that are not there; those of the val split stay, for scores to tell of them.

    Returns:
        The manifest without them, and how many files of each split are not there.
    """
    gone = manifest.column("reason") == os.strerror(errno.ENOENT)
    split = manifest.column("split")
    kept = np.flatnonzero(~(gone & (split == "train")))
    counts = {name: int((gone & (split == name)).sum()) for name in SPLITS}
    return (manifest.take(kept) if counts["train"] else manifest), counts


def _columns(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    return dict(zip(table.column_names, table.columns, strict=True))
