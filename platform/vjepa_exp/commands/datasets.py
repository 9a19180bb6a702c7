"""`data index`, `data import` and `data check`: manifests of videos and images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from vjepa_exp.commands.console import console, grid, progress
from vjepa_exp.data.boxes import write_boxes
from vjepa_exp.data.findings import forget
from vjepa_exp.data.importers.ava import ava_boxes
from vjepa_exp.data.importers.formats import FORMATS
from vjepa_exp.data.index import index_listing, split_missing
from vjepa_exp.data.listing import Listing, list_files
from vjepa_exp.data.manifest import SPLITS, Manifest, Split, read_manifest, write_manifest
from vjepa_exp.data.recheck import recheck
from vjepa_exp.data.remote import place
from vjepa_exp.runtime.files import EachFile
from vjepa_exp.spec.base import Name
from vjepa_exp.spec.datasets import DEMO_SETS, DatasetEntry, Registry
from vjepa_exp.spec.errors import UserError

MANIFESTS = "manifests"
LISTED = 20
"""Files that are printed of those with something to say about."""


def index(source: str, name: str, registry_file: Path, val: str | None, root: str | None, each: EachFile) -> None:
    """Look into every file of the user's own data set and register its manifest.

    Raises:
        UserError: the source lists no file, no file can be read, the name belongs to a demo set, or a store or server
            cannot be reached.
    """
    check_name(name)
    others = {key: place(text) for key, text in (("val", val), ("root", root)) if text is not None}
    _register(list_files(place(source), **others), name, registry_file, each)


def import_lists(format_name: str, files: Path, lists: Path, name: str, registry_file: Path, each: EachFile) -> None:
    """Look into every file that the lists of a public data set name and register its manifest.

    Raises:
        UserError: a list cannot be found or understood, or no file can be read.
    """
    check_name(name)
    _register(FORMATS[format_name](files, lists), name, registry_file, each, public=True)
    if format_name == "ava":
        boxes, path = ava_boxes(files, lists), manifest_path(name, registry_file).with_suffix(".boxes.parquet")
        write_boxes(boxes, path)
        seconds = boxes.table.select(["path", "second"]).group_by(["path", "second"]).aggregate([]).num_rows
        text = f"{len(boxes.table)} boxes with an action in {seconds} key frames, {boxes.excluded} excluded"
        console().print(f"written: {path} ({text})", soft_wrap=True)


def _register(listing: Listing, name: str, registry_file: Path, each: EachFile, *, public: bool = False) -> None:
    """Look into every file of a listing, write `manifests/NAME.parquet` beside the registry, and register it."""
    registry, out = Registry(registry_file), console()
    path = manifest_path(name, registry_file)
    kept = path.with_suffix(".partial.jsonl")
    with progress("looking into files") as show:
        manifest = index_listing(listing, each=each, kept=kept, progress=show)
    if not len(manifest.decodable()):
        forget(kept)  # what is wrong with all of them may be mended without a change of any
        first, reason = manifest.unreadable()[0]
        raise UserError(f"{listing.root}: none of its {len(manifest)} files can be read; the first, {first}: {reason}")
    if public:
        manifest, missing = split_missing(manifest)
        _print_missing(missing)
    write_manifest(manifest, path)
    images = bool(manifest.decodable().images().all())
    registry.register(name, DatasetEntry(manifest=f"{MANIFESTS}/{path.name}", kind="image" if images else "video"))
    forget(kept)
    describe(manifest)
    out.print(f"written: {path}, registered as '{name}' in {registry_file}", soft_wrap=True)
    out.print(f"use it: vjepa-exp run SPEC --set 'recipe.pretrain.data.mixture=[{{dataset: {name}}}]'", soft_wrap=True)


def _print_missing(missing: Mapping[Split, int]) -> None:
    if missing["train"]:
        console().print(f"not on this disk: {missing['train']} training files of the lists, left out")
    if missing["val"]:
        console().print(f"not on this disk: {missing['val']} val files of the lists; scores count them as not covered")


def manifest_path(name: str, registry_file: Path) -> Path:
    """Where the manifest of a data set is written."""
    return registry_file.parent / MANIFESTS / f"{name}.parquet"


def check_name(name: str) -> None:
    """Refuse a name before files are looked into, which may take hours.

    Raises:
        UserError: it cannot be the name of a data set, or belongs to a demo set.
    """
    if name in DEMO_SETS:
        raise UserError(f"'{name}' is the name of a demo set; choose another")
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        raise UserError(f"--out {name}: a name may hold only letters, digits, '_', '.' and '-'") from None


def open_manifest(name: str, registry_file: Path) -> Manifest:
    """The manifest of a registered data set, or a manifest file.

    Raises:
        UserError: there is no such data set, or its manifest cannot be read.
    """
    return read_manifest(find_manifest(name, registry_file))


def find_manifest(name: str, registry_file: Path) -> Path:
    """Where the manifest of a registered data set lies; a manifest file is taken as it is.

    Raises:
        UserError: there is no such data set.
    """
    registry = Registry(registry_file)
    if name in registry.entries:
        return registry.manifest(name)
    if registry.has(name):
        raise UserError(f"'{name}' is a demo set: it is made when it is first needed, or by vjepa-exp data demo")
    if Path(name).is_file():
        return Path(name)
    raise UserError(registry.missing(name))


def check(name: str, registry_file: Path, each: EachFile) -> bool:
    """Print what a manifest holds and which of its files are not what it says; whether there are none.

    Raises:
        UserError: there is no such data set, or its manifest cannot be read.
    """
    manifest, out = open_manifest(name, registry_file), console()
    describe(manifest)
    with progress("looking into files again") as show:
        changes = recheck(manifest, each=each, progress=show)
    for change in changes[:LISTED]:
        out.print(f"changed: {change.path}: {change.what}", soft_wrap=True)
    if len(changes) > LISTED:
        out.print(f"... and {len(changes) - LISTED} more")
    total = len(set(manifest.column("path")))
    out.print(f"{total - len(changes)} of {total} files are as they were indexed")
    return not changes


def describe(manifest: Manifest) -> None:
    """Print what a manifest holds."""
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
