"""`data demo | index | check`: the demo videos, and manifests of the user's own videos and images."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.progress import Progress

from vjepa_exp.commands.console import console, grid
from vjepa_exp.data.index import index as make_manifest
from vjepa_exp.data.manifest import SPLITS, Manifest, read_manifest, write_manifest
from vjepa_exp.graph.demo import FAMILIES
from vjepa_exp.graph.machine import this_machine
from vjepa_exp.graph.stage import Stage
from vjepa_exp.graph.store import Store
from vjepa_exp.runtime.demo_data import make_demo_data
from vjepa_exp.spec.datasets import DatasetEntry, Family, Registry
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.stages import DataRecipe

MANIFESTS = "manifests"
LISTED = 20
"""Unreadable files that are printed; the manifest holds them all."""


def demo(family: Family, store_root: Path) -> None:
    """Make a family of demo data in the store, where `run` finds it.

    Raises:
        UserError: the store is in use or cannot be written.
    """
    stage, store = demo_stage(family), Store(store_root)
    out = console()
    if store.record(stage) is None:
        with store.lock(), _progress("demo clips") as show:
            begun = time.monotonic()
            made = make_demo_data(stage, store.begin(stage), this_machine().cores, show)
            store.commit(stage, made.metrics, made.files, {"seconds": round(time.monotonic() - begun, 1)})
    for name in sorted(store.path(stage).glob("*.parquet")):
        out.print(f"{name.stem}: {name}", soft_wrap=True)


def demo_stage(family: Family) -> Stage:
    """The stage that makes a family; the same one that a plan asks for."""
    return Stage("data", family, DataRecipe(family=family, digest=FAMILIES[family].digest))


def index(source: Path, name: str, registry_file: Path, val: Path | None, root: Path | None) -> None:
    """Look into every file, write `manifests/NAME.parquet` beside the registry, and register it.

    Raises:
        UserError: the source lists no file, no file can be read, or the name belongs to a demo set.
    """
    registry = Registry(registry_file)
    with _progress("looking into files") as show:
        manifest = make_manifest(source, val=val, root=root, processes=this_machine().cores, progress=show)
    if not len(manifest.decodable()):
        first, reason = manifest.unreadable()[0]
        raise UserError(f"{source}: none of its {len(manifest)} files can be read; the first, {first}: {reason}")
    path = registry_file.parent / MANIFESTS / f"{name}.parquet"
    images = set(manifest.decodable().column("reader")) == {"image"}
    entry = DatasetEntry(manifest=f"{MANIFESTS}/{name}.parquet", kind="image" if images else "video")
    write_manifest(manifest, path)
    registry.register(name, entry)
    _describe(manifest)
    out = console()
    out.print(f"written: {path}, registered as '{name}' in {registry_file}", soft_wrap=True)
    out.print(f"use it: vjepa-exp run SPEC --set 'recipe.pretrain.data.mixture=[{{dataset: {name}}}]'", soft_wrap=True)


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


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    with Progress(console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(what)
        yield lambda done, total: bar.update(task, completed=done, total=total)


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
