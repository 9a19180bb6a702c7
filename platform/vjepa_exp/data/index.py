"""Making a manifest: list the files of a data set, look into each, keep the bad ones with their reason."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from vjepa_exp.data.manifest import SPLITS, UNLABELLED, Manifest, Split
from vjepa_exp.data.probe import IMAGE_SUFFIXES, VIDEO_SUFFIXES, FileInfo, probe
from vjepa_exp.spec.errors import UserError

Progress = Callable[[int, int], None]
_CHUNK = 16  # files that a process looks into at a time


class _Listed(NamedTuple):
    path: str
    label: str
    split: Split


def index(
    source: Path,
    *,
    val: Path | None = None,
    root: Path | None = None,
    processes: int = 1,
    progress: Progress | None = None,
) -> Manifest:
    """Make the manifest of a data set. A file that cannot be decoded is listed with the reason.

    Args:
        source: a folder of class folders, perhaps below `train` and `val`; a list `path label` without a header, as
            the released code reads it; or a CSV file with the columns path, label and split.
        val: a second source whose files are the val split; those of `source` are then the train split.
        root: what relative paths count from; the folder itself, or that of the CSV file, if None.
        processes: how many look into files at a time.
        progress: called with (files done, files in all).

    Raises:
        UserError: the source does not exist, cannot be understood, or lists no file.
    """
    root = (root or (source if source.is_dir() else source.parent)).resolve()
    listed = list(_listed(source, root, "train"))
    if val is not None:
        listed = [item._replace(split="train") for item in listed]
        listed += [item._replace(split="val") for item in _listed(val, root, "val")]
    if not listed:
        raise UserError(f"{source} lists no video or image")
    labels, classes = _classes([item.label for item in listed], source)
    infos = _probe_all([root / item.path for item in listed], processes, progress)
    rows = [
        {"path": item.path, "label": label, "split": item.split, **dataclasses.asdict(info)}
        for item, label, info in zip(listed, labels, infos, strict=True)
    ]
    return Manifest.from_rows(rows, root, classes)


def _listed(source: Path, root: Path, split: Split) -> Iterator[_Listed]:
    if source.is_dir():
        return _folder(source.resolve(), root, split)
    try:
        lines = source.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise UserError(f"{source} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a UTF-8 text file"
        raise UserError(f"{source} cannot be read: {reason}") from None
    header = next(csv.reader(lines[:1]), [])
    if "path" in header and "label" in header:
        return _manifest_csv(source, lines, split)
    return _reference_list(source, lines, split)


def _folder(source: Path, root: Path, split: Split) -> Iterator[_Listed]:
    """Files below class folders, below split folders where there are any; files in no class folder have no label."""
    parts: list[tuple[Path, Split]] = [(source / name, name) for name in SPLITS if (source / name).is_dir()]
    for folder, part in parts or [(source, split)]:
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES and not path.is_dir():
                below = path.relative_to(folder).parts
                yield _Listed(_below(path, root), below[0] if len(below) > 1 else "", part)


def _below(path: Path, root: Path) -> str:
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def _reference_list(source: Path, lines: list[str], split: Split) -> Iterator[_Listed]:
    """`path label` lines; the label follows the last space, the path may stand in quotes."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        path, space, label = line.strip().rpartition(" ")
        if not space or not label.isdecimal():
            raise UserError(
                f"{source}:{number}: expected 'path label' with a whole number, found '{line.strip()[:80]}'"
            )
        path = path.strip()
        if len(path) > 1 and path[0] == path[-1] == '"':
            path = path[1:-1].replace('""', '"')
        yield _Listed(path, label, split)


def _manifest_csv(source: Path, lines: list[str], split: Split) -> Iterator[_Listed]:
    """Rows of a CSV file with a header; an empty label means none, without a split all rows are of `split`."""
    reader = csv.DictReader(lines)
    for row in reader:
        path, label, part = (row.get(name) or "" for name in ("path", "label", "split"))
        if not path:
            raise UserError(f"{source}:{reader.line_num}: no path")
        if part not in ("", *SPLITS):
            raise UserError(f"{source}:{reader.line_num}: split '{part}' is neither {' nor '.join(SPLITS)}")
        yield _Listed(path, label, "val" if part == "val" else "train" if part == "train" else split)


def _classes(labels: list[str], source: Path) -> tuple[list[int], tuple[str, ...]]:
    """Numbers of the labels and the class names: whole numbers stay what they are, names are sorted."""
    given = {label for label in labels if label}
    if all(label.isdecimal() for label in given):
        top = max((int(label) for label in given), default=-1)
        if top >= 1_000_000:
            raise UserError(f"{source}: label {top} is too large to be a class")
        return [int(label) if label else UNLABELLED for label in labels], tuple(str(i) for i in range(top + 1))
    names = sorted(given)
    number = {name: i for i, name in enumerate(names)}
    return [number.get(label, UNLABELLED) for label in labels], tuple(names)


def _probe_all(paths: list[Path], processes: int, progress: Progress | None) -> list[FileInfo]:
    infos: list[FileInfo] = []
    processes = min(processes, -(-len(paths) // _CHUNK))
    # Not forked: the caller may run threads (Ray, MLflow), and a fork would copy their locks.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) if processes > 1 else nullcontext() as pool:
        found: Iterable[FileInfo] = pool.map(probe, paths, chunksize=_CHUNK) if pool else map(probe, paths)
        for info in found:
            infos.append(info)
            if progress:
                progress(len(infos), len(paths))
    return infos
