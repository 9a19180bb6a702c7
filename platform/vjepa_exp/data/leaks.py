"""Videos that two sets share: the same bytes first, then the same pictures.

Pairs with similar pictures are not sought among all: the hash of a frame is cut into bands, and only videos that agree
in all bits of a band of the same frame are compared, first by their hashes and then by their small frames.

Legend: N and M videos of the sets, F frames of a signature.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from vjepa_exp.data.findings import Found, Look, Progress, look_at
from vjepa_exp.data.guard import Each
from vjepa_exp.data.manifest import Manifest
from vjepa_exp.data.signature import Floats, Greys, Hashes, distance
from vjepa_exp.data.signature_store import SignatureStore

Rows = npt.NDArray[np.int64]

BANDS = 4
_BAND_BITS = 64 // BANDS
_AT_ONCE = 2**21  # pairs that are compared together: bounds the memory
_NEAR_FRAME = 16  # bits by which the frame that brought a pair together may differ
_NEAR = 20.0  # mean bits over all frames above which a pair is not looked at


class Files(NamedTuple):
    """Files of a data set, none twice."""

    names: list[str]
    """As in the manifest."""
    paths: list[str]
    """Absolute."""
    sizes: Rows
    """In bytes, [N]."""


class Pairs(NamedTuple):
    """Pairs of videos, sorted by the first and then the second, none twice."""

    first: Rows
    """[pairs], numbers in the first set."""
    second: Rows
    """[pairs]"""
    distance: Floats
    """[pairs]"""


def _digest(path: str) -> Found:
    with Path(path).open("rb") as file:
        return {"digest": hashlib.file_digest(file, "sha256").hexdigest()}


_DIGEST = Look(_digest, lambda path, reason: {"digest": ""}, pa.schema([("digest", pa.string())]))


def files_of(manifest: Manifest) -> Files:
    """The readable files of a manifest, each once.

    Raises:
        UserError: they lie on no disk of this machine.
    """
    table = manifest.decodable().table
    names = pc.unique(table["path"])
    rows = pc.index_in(names, value_set=table["path"])
    root = manifest.local_root()
    return Files(
        names.to_pylist(), [str(root / name) for name in names.to_pylist()], table["bytes"].take(rows).to_numpy()
    )


def same_bytes(
    first: Files, second: Files, each: Each, *, kept: Path | None = None, progress: Progress | None = None
) -> Pairs:
    """Pairs of files with the same content; only those with a size that the other set has too are read.

    Args:
        first: N files.
        second: M files.
        each: how reading is spread over processes.
        kept: where digests are kept as they come, so that a killed call can be continued, until `findings.forget`.
        progress: called with (files done, files in all).

    Raises:
        UserError: another process is at work on `kept`.
    """
    common = np.intersect1d(first.sizes, second.sizes)
    alike = [np.flatnonzero(np.isin(files.sizes, common)).tolist() for files in (first, second)]
    paths = [[files.paths[row] for row in rows] for files, rows in zip((first, second), alike, strict=True)]
    todo = list(dict.fromkeys([*paths[0], *paths[1]]))
    found = look_at(todo, _DIGEST, each, kept=kept, progress=progress)["digest"].to_pylist()
    digest = dict(zip(todo, found, strict=True))
    holders: dict[str, list[int]] = {}
    for row, path in zip(alike[1], paths[1], strict=True):
        holders.setdefault(digest[path], []).append(row)
    holders.pop("", None)  # could not be read
    pairs = [(i, j) for i, path in zip(alike[0], paths[0], strict=True) for j in holders.get(digest[path], [])]
    table = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)
    return Pairs(table[:, 0], table[:, 1], np.zeros(len(table)))


def same_pictures(first: SignatureStore, second: SignatureStore, threshold: float) -> Pairs:
    """Pairs of videos whose small frames differ by less than a threshold.

    Args:
        first: the larger set; its frames are read a part at a time.
        second: the smaller set.
        threshold: of `signature.distance`.
    """
    found = candidates(first.hashes(), second.hashes())
    apart = np.full(len(found[0]), np.inf)
    mine = np.unique(found[1])
    grey = dict[int, Greys]()
    for places, frames in second.grey(mine):
        grey |= dict(zip(mine[places].tolist(), frames, strict=True))
    for places, frames in first.grey(found[0]):
        for start in range(0, len(places), 1024):
            few = places[start : start + 1024]
            others = np.stack([grey[number] for number in found[1][few].tolist()])
            apart[few] = distance(frames[start : start + 1024], others)
    near = apart < threshold
    return Pairs(found[0][near], found[1][near], apart[near])


def candidates(first_NF: Hashes, second_MF: Hashes) -> tuple[Rows, Rows]:
    """Pairs whose hashes agree in a band and are near each other in all frames; sorted, none twice."""
    found = np.zeros(0, dtype=np.int64)
    for frame in range(first_NF.shape[1] if len(first_NF) and len(second_MF) else 0):
        for band in range(BANDS):
            new = [_near(first_NF, second_MF, frame, *pairs) for pairs in _bucketed(first_NF, second_MF, frame, band)]
            found = np.union1d(found, np.concatenate([np.zeros(0, dtype=np.int64), *new]))
    return np.divmod(found, max(1, len(second_MF)))


def _bucketed(first_NF: Hashes, second_MF: Hashes, frame: int, band: int) -> Iterator[tuple[Rows, Rows]]:
    """Pairs whose frame has the same bits in a band, a bounded number at a time."""
    order, key = _sorted(first_NF[:, frame], band)
    mine, wanted = _sorted(second_MF[:, frame], band)
    begin, end = np.searchsorted(key, wanted), np.searchsorted(key, wanted, side="right")
    total = np.concatenate([[0], np.cumsum(end - begin)])
    for start in range(0, int(total[-1]), _AT_ONCE):
        number = np.arange(start, min(start + _AT_ONCE, int(total[-1])))
        which = np.searchsorted(total, number, side="right") - 1
        yield order[begin[which] + number - total[which]], mine[which]


def _sorted(hashes: npt.NDArray[np.uint64], band: int) -> tuple[Rows, npt.NDArray[np.uint16]]:
    """The videos whose frame is not flat by the bits of its band, and these bits."""
    seen = np.flatnonzero(hashes)
    bits = (hashes[seen] >> np.uint64(band * _BAND_BITS)).astype(np.uint16)
    order = np.argsort(bits, kind="stable")
    return seen[order], bits[order]


def _near(first_NF: Hashes, second_MF: Hashes, frame: int, i: Rows, j: Rows) -> Rows:
    """Those of the pairs that are near, as i * M + j."""
    close = np.bitwise_count(first_NF[i, frame] ^ second_MF[j, frame]) <= _NEAR_FRAME
    i, j = i[close], j[close]
    one_PF, other_PF = first_NF[i], second_MF[j]
    both_PF = (one_PF != 0) & (other_PF != 0)
    bits_PF = np.where(both_PF, np.bitwise_count(one_PF ^ other_PF), 0)
    near = bits_PF.sum(axis=1) <= _NEAR * both_PF.sum(axis=1)
    return i[near] * len(second_MF) + j[near]
