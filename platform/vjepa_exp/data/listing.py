"""The files of a data set as somebody lists them: class folders, a list of the released code, a CSV with a header."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from vjepa_exp.data.manifest import SPLITS, UNLABELLED, Split
from vjepa_exp.data.places import places
from vjepa_exp.data.probe import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from vjepa_exp.data.remote import Remote, Root, below, is_remote, join
from vjepa_exp.spec.errors import UserError

_ROWS = 65_536  # held as Python objects at a time
_NAMED = 3  # of the folders that a message is about
_TEST = "test"  # without labels as it is published: left out without a word


class Listed(NamedTuple):
    """One file, before anyone has looked into it."""

    path: str
    """Relative to the root of the listing, '/' between folders; or absolute; or a URI."""
    label: str
    """Name or number of its class, "" if it has none."""
    split: Split


@dataclass(frozen=True)
class Listing:
    """The files of a data set in a fixed order.

    Attributes:
        table: the columns path, label and split of the manifest to be.
        root: what relative paths count from.
        classes: class names by label.
    """

    table: pa.Table
    root: Root
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return self.table.num_rows


def make_listing(files: Iterable[Listed], root: Root, source: str, *, classes: Sequence[str] | None = None) -> Listing:
    """Number the labels of some files.

    Args:
        files: in the order of the manifest to be.
        root: what relative paths count from.
        source: what a message calls their list.
        classes: names by label, each file's label being one of them. None: whole numbers stay what they are, and names
            are numbered in alphabetical order.

    Raises:
        UserError: there is no file, a label cannot be a class, or a name is not Unicode.
    """
    parts, items = [], iter(files)
    while rows := list(islice(items, _ROWS)):
        try:
            parts.append(
                pa.table([pa.array(column, pa.string()) for column in zip(*rows, strict=True)], Listed._fields)
            )
        except UnicodeEncodeError as error:
            raise UserError(f"{source}: {error.object!a} is not Unicode; rename the file") from None
    if not parts:
        raise UserError(f"{source} lists no video or image")
    table = pa.concat_tables(parts)
    labels = table["label"].combine_chunks().dictionary_encode()
    names: list[str] = labels.dictionary.to_pylist()
    numbers, classes = _numbers(names, source) if classes is None else (_known(names, classes), tuple(classes))
    column = pa.array(numbers[labels.indices.to_numpy()], pa.int32())
    return Listing(table.set_column(1, "label", column), root, classes)


def _numbers(names: list[str], source: str) -> tuple[npt.NDArray[np.int32], tuple[str, ...]]:
    given = sorted({name for name in names if name})
    if not all(name.isdecimal() for name in given):
        return _known(names, given), tuple(given)
    top = max((int(name) for name in given), default=-1)
    if top >= 1_000_000:
        raise UserError(f"{source}: label {top} is too large to be a class")
    numbers = [int(name) if name else UNLABELLED for name in names]
    return np.asarray(numbers, dtype=np.int32), tuple(str(i) for i in range(top + 1))


def _known(names: list[str], classes: Sequence[str]) -> npt.NDArray[np.int32]:
    number = {name: i for i, name in enumerate(classes)} | {"": UNLABELLED}
    return np.asarray([number[name] for name in names], dtype=np.int32)


def list_files(source: Root, *, val: Root | None = None, root: Root | None = None) -> Listing:
    """List a user's own data set.

    Args:
        source: a folder of class folders, perhaps below `train` and `val` that stand alone, here or remote; a list
            `path label` without a header, as the released code reads it; or a CSV file with the columns path, label
            and split.
        val: a second source whose files are the val split; those of `source` are then the train split.
        root: what relative paths count from; the folder itself, or that of the CSV file, if None.

    Raises:
        UserError: the source does not exist, cannot be understood, or lists no file; it holds split folders beside
            others; or `val` is given, and one of the two holds the other split as well, or both hold the same file.
    """
    root = root or (source if isinstance(source, Remote) or source.is_dir() else source.parent)
    root = root if isinstance(root, Remote) else root.resolve()
    if val is None:
        return make_listing(_listed(source, root, "train"), root, str(source))
    files = chain(_only(source, root, "train"), _only(val, root, "val"))
    listing = make_listing(files, root, str(source))
    _require_apart(listing, source, val)
    return listing


def _only(source: Root, root: Root, split: Split) -> Iterator[Listed]:
    """The files of one of two sources, which has to be of one split."""
    for item in _listed(source, root, split):
        if item.split != split:
            raise UserError(
                f"{source} holds {item.split} files too, such as {item.path}: leave --val out if it holds both splits, "
                f"else name the {split} folder or list alone"
            )
        yield item


def _require_apart(listing: Listing, source: Root, val: Root) -> None:
    """Refuse a file that is trained on and tested with."""
    train, held = (
        listing.table.filter(pc.equal(listing.table["split"], split))["path"].to_pylist() for split in SPLITS
    )
    tested = set(places(_under(listing.root, held)))
    for path, place in zip(train, places(_under(listing.root, train)), strict=True):
        if place in tested:
            raise UserError(f"{path} is in both {source} and {val}: no file may be in the train and in the val split")


def _under(root: Root, paths: Iterable[str]) -> Iterator[str]:
    if isinstance(root, Remote):
        return (join(root, path) for path in paths)
    return (path if is_remote(path) else os.path.join(root, path) for path in paths)  # noqa: PTH118 (many times as fast)


def _listed(source: Root, root: Root, split: Split) -> Iterator[Listed]:
    if isinstance(source, Remote):
        return _remote_folder(source, root, split)
    if source.is_dir():
        return _folder(source.resolve(), root, split)
    lines = read_lines(source)
    header = next(csv.reader(lines[:1]), [])
    if "path" in header and "label" in header:
        return _manifest_csv(source, lines, split)
    return _reference_rows(source, lines, split)


def reference_list(source: Path, split: Split) -> Iterator[Listed]:
    """`path label` lines; the label, a whole number, follows the last space, the path may stand in quotes.

    Raises:
        UserError: the list cannot be read or understood.
    """
    return _reference_rows(source, read_lines(source), split)


def read_lines(source: Path) -> list[str]:
    """The lines of a text file.

    Raises:
        UserError: it does not exist or cannot be read.
    """
    try:
        return source.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise UserError(f"{source} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a UTF-8 text file"
        raise UserError(f"{source} cannot be read: {reason}") from None


def _folder(source: Path, root: Root, split: Split) -> Iterator[Listed]:
    """Files below class folders, below split folders where there are any; files in no class folder have no label."""
    parts: list[tuple[Path, Split]] = [(source / name, name) for name in SPLITS if (source / name).is_dir()]
    if parts:
        others = sorted(path for path in source.iterdir() if path.is_dir() and path.name not in (*SPLITS, _TEST))
        _require_splits_alone(source, [part for _, part in parts], [path.name for path in others if any(walk(path))])
    for folder, part in parts or [(source, split)]:
        prefix = _below(folder, root)
        for name in walk(folder):
            yield Listed(f"{prefix}/{name}" if prefix != "." else name, _class_of(name), part)


def _remote_folder(source: Remote, root: Root, split: Split) -> Iterator[Listed]:
    """As `_folder`; its files are named by URIs where it is not the root itself."""
    names = [name for name in below(source) if _wanted(name)]
    parts = [(f"{name}/", name) for name in SPLITS if any(one.startswith(f"{name}/") for one in names)]
    if parts:
        folders = sorted({name.partition("/")[0] for name in names if "/" in name} - {*SPLITS, _TEST})
        _require_splits_alone(source, [part for _, part in parts], folders)
    for prefix, part in parts or [("", split)]:
        for name in names:
            if name.startswith(prefix):
                path = name if source == root else str(source / name)
                yield Listed(path, _class_of(name.removeprefix(prefix)), part)


def _require_splits_alone(source: Root, parts: Sequence[Split], others: Sequence[str]) -> None:
    """Refuse a folder where `train` or `val` may be a class among others: these would be left out."""
    if not others:
        return
    named, more = ", ".join(others[:_NAMED]), f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
    val = f" --val {source}/{parts[1]}" if len(parts) > 1 else ""
    raise UserError(
        f"{source} holds {' and '.join(parts)} beside other folders with videos or images: {named}{more}; if the "
        f"former are splits, index {source}/{parts[0]}{val}, if classes, rename them or list all files in a CSV"
    )


def _class_of(name: str) -> str:
    return name.partition("/")[0] if "/" in name else ""


def _wanted(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES  # noqa: PTH122 (twice as fast)


def walk(folder: Path) -> Iterator[str]:
    """Videos and images below a folder, in the order of their names, relative to it."""
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir():
            if entry.is_symlink() and folder.is_relative_to(Path(entry.path).resolve()):
                continue  # would never end
            yield from (f"{entry.name}/{name}" for name in walk(Path(entry.path)))
        elif _wanted(entry.name):
            yield entry.name


def _below(path: Path, root: Root) -> str:
    if isinstance(root, Path) and path.is_relative_to(root):
        return path.relative_to(root).as_posix()
    return path.as_posix()


def _reference_rows(source: Path, lines: list[str], split: Split) -> Iterator[Listed]:
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
        yield Listed(path, label, split)


def _manifest_csv(source: Path, lines: list[str], split: Split) -> Iterator[Listed]:
    """Rows of a CSV file with a header; an empty label means none, without a split all rows are of `split`."""
    reader = csv.DictReader(lines)
    for row in reader:
        path, label, part = (row.get(name) or "" for name in ("path", "label", "split"))
        if not path:
            raise UserError(f"{source}:{reader.line_num}: no path")
        if part not in ("", *SPLITS):
            raise UserError(f"{source}:{reader.line_num}: split '{part}' is neither {' nor '.join(SPLITS)}")
        yield Listed(path, label, "val" if part == "val" else "train" if part == "train" else split)
