"""A data set encoded again: each video by itself, checked before it takes its name, so that a killed call goes on."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vjepa_exp.data.findings import Found, Look, Progress, look_at
from vjepa_exp.data.guard import Each, Lost
from vjepa_exp.data.manifest import FILE_COLUMNS, IMAGE, Manifest
from vjepa_exp.data.prepare_folder import NOTES, PARTS, Owner, claim
from vjepa_exp.data.probe import IMAGE_SUFFIXES, FileInfo, probe
from vjepa_exp.data.readers import DecodeError
from vjepa_exp.data.reencode import Settings, UntimedError, encode
from vjepa_exp.data.reencode_check import Checked, UnfitError, compare
from vjepa_exp.spec.errors import UserError

T = TypeVar("T")
R = TypeVar("R")

PREPARED_COLUMNS = pa.schema([*FILE_COLUMNS, ("psnr", pa.float32()), ("even", pa.bool_())])
"""What is found about a prepared file: as in a manifest; the PSNR of its worst frame in dB; whether its frames are
spread evenly, as those of its source have no times that ascend."""

SOURCE, RESULT, DISK = "source: ", "not prepared: ", "cannot be written: "
"""How the reason begins where a file is not prepared: its source is to blame, what came out, or the disk."""


@dataclass(frozen=True)
class Prepared:
    """A prepared data set.

    Attributes:
        manifest: its files; what could not be prepared is listed with the reason.
        source: the rows of the data set that it was made from.
        psnr: of the worst frame of each file in dB, float32 [rows]; 0 where there is none.
        even: which files have evenly spread frames as the source has no times for them, bool [rows].
    """

    manifest: Manifest
    source: Manifest
    psnr: Any
    even: Any

    def failed(self) -> list[tuple[str, str]]:
        """Path and reason of every file whose result was not good enough or whose process died."""
        reasons = self.manifest.unreadable()
        return [(path, reason) for path, reason in reasons if not reason.startswith(SOURCE)]


def prepare(
    source: Manifest,
    folder: Path,
    settings: Settings,
    provenance: Mapping[str, Any],
    *,
    owner: Owner,
    min_psnr: float,
    each: Each,
    progress: Progress | None = None,
) -> Prepared:
    """Encode the videos of a data set again; images are copied. What is there already is not made again.

    Args:
        source: the data set.
        folder: where the files go, below their old paths.
        settings: how to encode.
        provenance: what the manifest says of where the set comes from.
        owner: the set to be, whose folder it is alone.
        min_psnr: decibels that each frame must reach against the scaled source.
        each: how the work is spread over processes.
        progress: called with (files done, files in all).

    Raises:
        UserError: the source is remote, another process is at work in `folder`, it cannot be written, two files would
            have one name, or one that of an original or of a file of another set.
    """
    root, folder = source.local_root(), folder.resolve()  # processes on other machines start elsewhere
    readable = pc.unique(source.table.filter(source.table["decodable"])["path"])
    names = {path: prepared_name(path, root) for path in pc.unique(source.table["path"]).to_pylist()}
    _require_one_name_each(names)
    claim(folder, owner, settings.to_json(), root, names)
    files = [str(root / path) for path in readable.to_pylist()]
    work = partial(prepare_file, root=root, folder=folder, settings=settings, min_psnr=min_psnr)
    made = partial(_made, root=root, folder=folder)
    look = Look(work, _lost, PREPARED_COLUMNS, settings=str(settings.to_json()), made=made)
    (folder / PARTS).mkdir(parents=True, exist_ok=True)
    found = look_at(files, look, partial(_watched, each, folder / PARTS), kept=folder / NOTES, progress=progress)
    table = _rows(source, _demanding(found, readable, min_psnr), readable, names)
    columns = {name: table[name] for name in ("path", "label", "split", *FILE_COLUMNS.names)}
    manifest = Manifest.from_columns(columns, folder, source.classes)
    manifest = dataclasses.replace(manifest, provenance=dict(provenance))
    return Prepared(manifest, source, table["psnr"].to_numpy(), table["even"].to_numpy())


def _demanding(found: pa.Table, paths: pa.Array, min_psnr: float) -> pa.Table:
    """What was found, with files made by a call that asked for less than `min_psnr` decibels as failures.

    Nothing else is done to them: encoded again they would be the same, and a call that asks for less takes them.
    """
    videos = pc.and_(found["decodable"], pc.not_equal(found["readers"], IMAGE))
    low = pc.less(found["psnr"], pa.scalar(min_psnr, pa.float32()))
    poor = np.flatnonzero(pc.and_(videos, low).to_numpy())
    why = [f"{psnr:.1f} dB in its worst frame, less than {min_psnr:g}" for psnr in found["psnr"].take(poor).to_pylist()]
    lost = [_lost(path, reason) for path, reason in zip(paths.take(poor).to_pylist(), why, strict=True)]
    rows = np.arange(len(found))
    rows[poor] = len(found) + np.arange(len(poor))
    return pa.concat_tables([found, pa.Table.from_pylist(lost, schema=PREPARED_COLUMNS)]).take(rows)


def _rows(source: Manifest, found: pa.Table, readable: pa.Array, names: Mapping[str, str]) -> pa.Table:
    """What was found for each row of the source, with its new path, its label and its split."""
    unreadable = [_lost(path, reason, SOURCE) for path, reason in source.unreadable()]
    both = pa.concat_tables([found, pa.Table.from_pylist(unreadable, schema=PREPARED_COLUMNS)])
    bad = source.table.filter(pc.invert(source.table["decodable"]))["path"].combine_chunks()
    places = pc.index_in(source.table["path"], value_set=pa.concat_arrays([readable, bad]))
    paths = pa.array([names[path] for path in source.table["path"].to_pylist()])
    table = both.take(places)
    for name, column in (("path", paths), ("label", source.table["label"]), ("split", source.table["split"])):
        table = table.append_column(name, column)
    return table


def prepared_name(path: str, root: Path) -> str:
    """Path of a prepared file below the folder of the set, for a path of the source's manifest."""
    whole = Path(os.path.normpath(root / path))
    below = whole.relative_to(root) if whole.is_relative_to(root) else whole.relative_to(whole.anchor)
    name = PurePosixPath(below)
    kept = name.suffix == ".mp4" or name.suffix.lower() in IMAGE_SUFFIXES
    return str(name if kept else name.with_name(f"{name.name}.mp4"))


def _made(path: str, root: Path, folder: Path) -> str:
    return str(folder / prepared_name(path, root))


def _require_one_name_each(names: Mapping[str, str]) -> None:
    taken: dict[str, str] = {}
    for path, name in names.items():
        if (other := taken.setdefault(name, path)) != path:
            raise UserError(f"{other} and {path} would both become {name}: rename one and index the set again")


def _watched(each: Each, parts: Path, work: Callable[[T], R], items: Sequence[T], /) -> Iterator[tuple[int, R | Lost]]:
    """Begin without what a killed call left half done; stop where the disk and not a file is to blame."""
    for left in parts.iterdir():
        left.unlink(missing_ok=True)
    for number, result in each(work, items):
        yield number, result
        found = result[-1] if isinstance(result, tuple) else None
        if found and found["reason"].startswith(DISK):
            raise UserError(f"{parts.parent} {found['reason']}; what is done is kept, the same command goes on")


def prepare_file(path: str, *, root: Path, folder: Path, settings: Settings, min_psnr: float) -> Found:
    """Encode one video again, or copy an image; what takes the new name is complete, synced and checked."""
    out = folder / prepared_name(path, root)
    part = folder / PARTS / f"{uuid4().hex}{out.suffix}"
    try:
        checked, even = _encoded(path, part, settings, min_psnr)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        out.parent.mkdir(parents=True, exist_ok=True)
        part.replace(out)
    except DecodeError as error:
        return _lost(path, str(error), SOURCE)
    except UnfitError as error:
        return _lost(path, str(error))
    except OSError as error:  # of the source, it would be a DecodeError
        return _lost(path, error.strerror or type(error).__name__, DISK)
    finally:
        part.unlink(missing_ok=True)
    return {**dataclasses.asdict(checked.info), "psnr": checked.psnr, "even": even}


def _encoded(path: str, part: Path, settings: Settings, min_psnr: float) -> tuple[Checked, bool]:
    if part.suffix.lower() in IMAGE_SUFFIXES:
        shutil.copyfile(path, part)
        info = probe(part)
        if info.readers != IMAGE:
            raise DecodeError("open", path, info.reason)
        return Checked(info, 99.0), False
    try:
        encode(path, part, settings)
        even = False
    except UntimedError:
        encode(path, part, settings, even=True)
        even = True
    return compare(path, part, settings, even=even, min_psnr=min_psnr), even


def _lost(path: str, reason: str, whose: str = RESULT) -> Found:
    """A file that is not prepared."""
    return {**dataclasses.asdict(FileInfo(reason=whose + reason)), "psnr": 0.0, "even": False}
