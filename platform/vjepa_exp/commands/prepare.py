"""`data prepare`: a registered data set encoded again so that it decodes fast, and what that cost and gave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vjepa_exp.commands.console import console, grid, progress
from vjepa_exp.commands.datasets import LISTED, MANIFESTS, check_name, describe, manifest_path
from vjepa_exp.data.boxes import Boxes, read_boxes, write_boxes
from vjepa_exp.data.manifest import Manifest, read_manifest, write_manifest
from vjepa_exp.data.prepare import Prepared, prepare, prepared_name
from vjepa_exp.data.prepare_folder import Owner
from vjepa_exp.data.reencode import Settings
from vjepa_exp.data.speed import speeds
from vjepa_exp.graph.plan import file_digest
from vjepa_exp.graph.provenance import code_version, environment
from vjepa_exp.runtime.files import EachFile
from vjepa_exp.spec.data import ClipSpec
from vjepa_exp.spec.datasets import DatasetEntry, Registry
from vjepa_exp.spec.errors import UserError

PREPARED = "prepared"
DEADLINE_S = 4 * 3600.0
"""For one file: encoding takes about as long as the video lasts."""


def prepare_set(
    name: str,
    new: str | None,
    folder: Path | None,
    settings: Settings,
    min_psnr: float,
    registry_file: Path,
    each: EachFile,
) -> bool:
    """Encode a registered data set again and register the result; whether every readable video was prepared.

    Raises:
        UserError: there is no such data set, `new` is another one, or the folder is another set's, holds originals, is
            in use or cannot be written.
    """
    new = new or f"{name}_{settings.short_side}"
    registry = Registry(registry_file)
    source, provenance = _source(name, new, settings, registry)
    folder = folder or registry_file.parent / PREPARED / new
    path = manifest_path(new, registry_file)
    owner = Owner(new, name, path)
    with progress("encoding again") as show:
        prepared = prepare(
            source, folder, settings, provenance, owner=owner, min_psnr=min_psnr, each=each, progress=show
        )
    if not len(prepared.manifest.decodable()):
        first, reason = prepared.manifest.unreadable()[0]
        raise UserError(f"none of the {len(source)} files of '{name}' can be prepared; the first, {first}: {reason}")
    _write_boxes(source, registry.manifest(name), path)
    write_manifest(prepared.manifest, path)
    registry = Registry(registry_file)  # others may have registered theirs meanwhile
    registry.register(new, DatasetEntry(manifest=f"{MANIFESTS}/{path.name}", kind=registry.kind(name)))
    describe(prepared.manifest)
    _report(prepared)
    console().print(f"written: {path}, registered as '{new}' in {registry_file}", soft_wrap=True)
    return _all_prepared(prepared)


def _source(name: str, new: str, settings: Settings, registry: Registry) -> tuple[Manifest, dict[str, Any]]:
    """What is to be prepared, and what will be said of where the result comes from."""
    check_name(new)
    if name not in registry.entries:
        raise UserError(
            f"'{name}' is a demo set: it is small already" if registry.has(name) else registry.missing(name)
        )
    if registry.kind(name) == "image":
        raise UserError(f"'{name}' holds images only; there is nothing to prepare")
    if new == name:
        raise UserError(f"--as {new}: a data set cannot take its own place; choose another name")
    path = registry.manifest(name)
    provenance = {
        "source": name,
        "source_digest": file_digest(name, path),
        "settings": settings.to_json(),
        "made_by": {**code_version(), "av": environment()["av"]},
    }
    if new in registry.entries:
        there = read_manifest(registry.manifest(new)).provenance
        if (there.get("source"), there.get("settings")) != (name, settings.to_json()):
            what = f"prepared from '{there['source']}' with {there['settings']}" if there else "another data set"
            raise UserError(f"'{new}' is registered already: {what}; choose another name with --as")
    return read_manifest(path), provenance


def _write_boxes(source: Manifest, old: Path, new: Path) -> None:
    """Take the boxes of people along: they are shares of the picture and seconds, so only the paths change."""
    table = old.with_suffix(".boxes.parquet")
    if not table.is_file():
        return
    boxes = read_boxes(table)
    paths = [prepared_name(path, source.local_root()) for path in boxes.table["path"].to_pylist()]
    moved = boxes.table.set_column(0, boxes.table.schema.field("path"), [paths])
    write_boxes(Boxes(moved, boxes.actions, boxes.excluded), new.with_suffix(".boxes.parquet"))


def _report(prepared: Prepared) -> None:
    """Sizes, quality and speed, before and after."""
    out = console()
    both = prepared.manifest.column("decodable")
    before, after = (float(part.column("bytes")[both].sum()) for part in (prepared.source, prepared.manifest))
    out.print(f"size: {_mib(before)} before, {_mib(after)} after, x {after / max(1.0, before):.2f}")
    psnr = prepared.psnr[both & ~prepared.manifest.images()]
    if len(psnr):
        text = f"{psnr.min():.1f} dB in the worst file, {np.median(psnr):.1f} dB in the median one"
        out.print(f"worst frame against the scaled source: {text}")
    if prepared.even.any():
        out.print(
            f"{prepared.even.sum()} files have frames spread evenly: those of their sources have no times that ascend"
        )
    rows = []
    clip = ClipSpec()
    found = speeds(prepared.source, prepared.manifest, clip)
    for speed in found:
        ratio = f"{speed.after / speed.before:.1f}" if speed.before and speed.after else "-"
        rows.append((speed.reader, _rate(speed.before), _rate(speed.after), ratio))
    if found:
        out.print(grid(("clips/s of CPU time", "before", "after", "x"), rows, right=range(1, 4)))
        frames = f"{clip.num_frames} frames, every {clip.frame_step}th, of {found[0].files} files"
        out.print(f"(decoding alone, {frames}; '-': not exact there)", soft_wrap=True)


def _all_prepared(prepared: Prepared) -> bool:
    failed = prepared.failed()
    if failed:
        out = console(stderr=True)
        for path, reason in failed[:LISTED]:
            out.print(f"failed: {path}: {reason}", soft_wrap=True)
        out.print(f"{len(failed)} files that can be read were not prepared; the same command tries them again")
    return not failed


def _mib(size: float) -> str:
    return f"{size / 2**20:.1f} MiB"


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.1f}"
