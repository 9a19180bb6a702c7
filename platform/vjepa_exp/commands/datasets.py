"""`data index` and `data check`: manifests of the user's own videos and images."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from vjepa_exp.commands.console import console, grid, progress
from vjepa_exp.data.index import index as make_manifest
from vjepa_exp.data.manifest import SPLITS, Manifest, read_manifest, write_manifest
from vjepa_exp.graph.machine import this_machine
from vjepa_exp.spec.base import Name
from vjepa_exp.spec.datasets import DEMO_SETS, DatasetEntry, Registry
from vjepa_exp.spec.errors import UserError

MANIFESTS = "manifests"
LISTED = 20
"""Unreadable files that are printed; the manifest holds them all."""


def index(source: Path, name: str, registry_file: Path, val: Path | None, root: Path | None) -> None:
    """Look into every file, write `manifests/NAME.parquet` beside the registry, and register it.

    Raises:
        UserError: the source lists no file, no file can be read, or the name belongs to a demo set.
    """
    registry = Registry(registry_file)
    _check_name(name)
    with progress("looking into files") as show:
        manifest = make_manifest(source, val=val, root=root, processes=this_machine().cores, progress=show)
    if not len(manifest.decodable()):
        first, reason = manifest.unreadable()[0]
        raise UserError(f"{source}: none of its {len(manifest)} files can be read; the first, {first}: {reason}")
    path = registry_file.parent / MANIFESTS / f"{name}.parquet"
    images = bool(manifest.decodable().images().all())
    entry = DatasetEntry(manifest=f"{MANIFESTS}/{name}.parquet", kind="image" if images else "video")
    write_manifest(manifest, path)
    registry.register(name, entry)
    _describe(manifest)
    out = console()
    out.print(f"written: {path}, registered as '{name}' in {registry_file}", soft_wrap=True)
    out.print(f"use it: vjepa-exp run SPEC --set 'recipe.pretrain.data.mixture=[{{dataset: {name}}}]'", soft_wrap=True)


def _check_name(name: str) -> None:
    """Before files are looked into, which may take hours."""
    if name in DEMO_SETS:
        raise UserError(f"'{name}' is the name of a demo set; choose another")
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        raise UserError(f"--out {name}: a name may hold only letters, digits, '_', '.' and '-'") from None


def check(name: str, registry_file: Path) -> bool:
    """Print what a manifest holds; whether all its files are still there, unchanged, with both splits.

    Raises:
        UserError: there is no such data set, or its manifest cannot be read.
    """
    registry = Registry(registry_file)
    if name in registry.entries:
        manifest = read_manifest(registry.manifest(name))
    elif registry.has(name):
        raise UserError(f"'{name}' is a demo set: it is made when it is first needed, or by vjepa-exp data demo")
    elif Path(name).is_file():
        manifest = read_manifest(Path(name))
    else:
        raise UserError(registry.missing(name))
    _describe(manifest)
    changed = [
        path
        for path, size in zip(manifest.column("path"), manifest.column("bytes"), strict=True)
        if not _unchanged(manifest.root / path, size)
    ]
    for path in changed[:LISTED]:
        console().print(f"changed or gone: {path}", soft_wrap=True)
    console().print(f"{len(manifest) - len(changed)} of {len(manifest)} files are as they were indexed")
    return not changed


def _unchanged(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return size == 0


def _describe(manifest: Manifest) -> None:
    out, rows = console(), []
    for split in SPLITS:
        part = manifest.subset(split)
        readable = part.decodable()
        labels = len(set(readable.column("label")) - {-1})
        frames = int(readable.column("frames").sum())
        size = part.column("bytes").sum() / 2**20
        rows.append((split, str(len(part)), str(len(readable)), str(labels), str(frames), f"{size:.1f} MiB"))
    out.print(grid(("split", "files", "readable", "classes", "frames", "size"), rows, right=range(1, 6)))
    codecs = Counter(manifest.decodable().column("codec")).most_common()
    out.print(f"codecs: {', '.join(f'{codec} {count}' for codec, count in codecs)}", soft_wrap=True)
    unreadable = manifest.unreadable()
    for path, reason in unreadable[:LISTED]:
        out.print(f"cannot be read: {path}: {reason}", soft_wrap=True)
    if len(unreadable) > LISTED:
        out.print(f"... and {len(unreadable) - LISTED} more, listed in the manifest")
