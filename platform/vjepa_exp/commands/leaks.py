"""`data leaks`: videos of a training set that other sets hold too, and the list that makes a mixture leave them out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vjepa_exp.commands.console import console, grid, progress
from vjepa_exp.commands.datasets import LISTED, find_manifest
from vjepa_exp.data.findings import forget
from vjepa_exp.data.leaks import Files, Pairs, files_of, same_bytes, same_pictures
from vjepa_exp.data.manifest import Split, read_manifest
from vjepa_exp.data.signature_store import SignatureStore, keep_signatures
from vjepa_exp.runtime.files import EachFile
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.removal import ListedSet, Removal, RemovalList


@dataclass(frozen=True)
class _Side:
    """A split of a data set while it is compared."""

    listed: ListedSet
    files: Files
    folder: Path
    """Where its signatures lie, and what is kept of an interrupted call."""


def leaks(
    train: str, others: Sequence[str], out: Path | None, threshold: float, registry_file: Path, each: EachFile
) -> None:
    """Compare the train split of a set with the val splits of others, print what they share, write a removal list.

    Raises:
        UserError: there is no such data set, its manifest cannot be read, or it has no readable file in that split.
    """
    mine = _side(train, "train", registry_file)
    held = [_side(name, "val", registry_file) for name in dict.fromkeys(others)]
    found, kept = dict[str, Removal](), list[Path]()
    with each.started(len(mine.files.paths)):
        signatures = _signatures(mine, each)
        for other in held:
            kept.append(mine.folder / f"{other.listed.name}.digests.partial.jsonl")
            exact = _exact(mine, other, each, kept[-1])
            _note(found, mine, other, exact, "exact")
            similar = same_pictures(signatures, _signatures(other, each), threshold)
            _note(found, mine, other, similar, "similar")
            _print_compared(mine, other, exact, similar)
    path = out or mine.folder.parent.with_name(f"{mine.listed.name}.leaks.csv")
    removals = tuple(sorted(found.values()))
    RemovalList(mine.listed, tuple(other.listed for other in held), removals, path).write()
    for digests in kept:
        forget(digests)
    _print(removals, mine, path, registry_file)


def _side(name: str, split: Split, registry_file: Path) -> _Side:
    path = find_manifest(name, registry_file)
    files = files_of(read_manifest(path).subset(split))
    if not files.paths:
        raise UserError(f"data set '{name}' has no readable file in its {split} split")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    shown = path.stem if Path(name).is_file() else name
    return _Side(ListedSet(shown, split, digest), files, path.with_name(f"{path.stem}.signatures") / split)


def _signatures(side: _Side, each: EachFile) -> SignatureStore:
    what = f"{side.listed.name} {side.listed.split}"
    with progress(f"looking at frames of {what}") as show:
        store = keep_signatures(side.files.paths, side.folder, each, show)
    unreadable = store.unreadable()
    flat = int((store.hashes() == 0).all(axis=1).sum()) - len(unreadable)
    for path, reason in unreadable[:LISTED]:
        console().print(f"not compared by pictures: {path}: {reason}", soft_wrap=True)
    if len(unreadable) > LISTED or flat:
        text = f"{len(unreadable)} that cannot be read, {flat} of even grey"
        console().print(f"not compared by pictures, of {what}: {text}")
    return store


def _exact(mine: _Side, other: _Side, each: EachFile, kept: Path) -> Pairs:
    with progress("comparing files of one size") as show:
        return same_bytes(mine.files, other.files, each, kept=kept, progress=show)


def _note(found: dict[str, Removal], mine: _Side, other: _Side, pairs: Pairs, kind: str) -> None:
    """Add pairs to what was found before: of a video's twins the first exact one stays, else the nearest."""
    for i, j, apart in zip(*(column.tolist() for column in pairs), strict=True):
        name, twin = mine.files.names[i], f"{other.listed.name}:{other.files.names[j]}"
        before = found.get(name)
        if before is None or (before.kind != "exact" and (kind == "exact" or apart < before.distance)):
            found[name] = Removal(name, kind, apart, twin)


def _print_compared(mine: _Side, other: _Side, exact: Pairs, similar: Pairs) -> None:
    sets = " x ".join(
        f"{len(side.files.paths)} videos of {side.listed.name} {side.listed.split}" for side in (mine, other)
    )
    same = set(zip(exact.first.tolist(), exact.second.tolist(), strict=True))
    only = sum(pair not in same for pair in zip(similar.first.tolist(), similar.second.tolist(), strict=True))
    console().print(f"{sets}: {len(same)} pairs with the same bytes, {only} with the same pictures", soft_wrap=True)


def _print(removals: Sequence[Removal], mine: _Side, path: Path, registry_file: Path) -> None:
    out, name = console(), mine.listed.name
    # The least sure ones first: these are to be looked at.
    shown = sorted(removals, key=lambda removal: (-removal.distance, removal.path))[:LISTED]
    rows = [(r.path, r.kind, f"{r.distance:.3f}", r.twin) for r in shown]
    if rows:
        out.print(grid((f"{name} train", "kind", "distance", "held by"), rows, right=[2]), soft_wrap=True)
    if len(removals) > LISTED:
        out.print(f"... and {len(removals) - LISTED} nearer ones")
    share = len(removals) / len(mine.files.paths)
    out.print(f"written: {path} ({len(removals)} of {len(mine.files.paths)} videos, {share:.2%})", soft_wrap=True)
    folder = registry_file.parent.resolve()
    place = path.resolve().relative_to(folder) if path.resolve().is_relative_to(folder) else path.resolve()
    entry = f"{{dataset: {name}, exclude: {place}}}"
    out.print(f"use it: vjepa-exp run SPEC --set 'recipe.pretrain.data.mixture=[{entry}]'", soft_wrap=True)
