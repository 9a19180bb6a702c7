"""Sources: positions of a run in, decoded uint8 clips out. Picklable, the same in every process, without a state.

What stands at a position depends on the seed, the manifests and the position alone; which process decodes it, and with
which neighbours, changes nothing.

Save for a time-out, which no clock of a busy machine gives twice alike. A file whose decoder does not come back in time
is replaced (pretraining) or not covered (evaluation) at that position, and from then on, in that process alone, so are
requests of it that reach as far: each would cost the time limit again and keep a thread for good. Requests that end
earlier in the file are tried. Every time-out is listed with its file.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from vjepa_exp.data.augment import augment_clip
from vjepa_exp.data.cache import fetching, local
from vjepa_exp.data.clips import clip_frames
from vjepa_exp.data.crash import noted
from vjepa_exp.data.deadline import within
from vjepa_exp.data.manifest import IMAGE, UNLABELLED, Entry, Manifest, Split, holds
from vjepa_exp.data.order import Order
from vjepa_exp.data.readers import DecodeError, decode, first_line, pick, require
from vjepa_exp.data.remote import require as require_store
from vjepa_exp.data.transform import Box, FramesTHWC, spatial_views
from vjepa_exp.spec.augment import Augment, CropFlip, NoAugment
from vjepa_exp.spec.data import ClipSpec, DataSpec
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.execution import ReaderChoice
from vjepa_models.keyed_rng import keyed_rng

Batch = dict[str, npt.NDArray[Any]]
"""`position` int64 [n]; `clips` uint8 [n, V, T, H, W, 3], zero where `error`; `erased` int64 [n, V, 4], the box (top,
left, height, width) of each clip that noise is to replace, zero for none; `label` int64 [n]; `path` and `error` str
[n], an empty `error` meaning none; of pretraining also `sample` int64 [n], which video was read (number of its data
set in the mixture << 40, plus row of its training split), and `skipped` str [n], JSON list of the unreadable videos
(`Skipped`) that were replaced. V counts segments, and within a segment its spatial views. T is 1 where every file has
one frame: repeating it is the trainer's work."""

Skipped = dict[str, str]
"""A video that was not read: `dataset`, `path` and `reason`."""

Rows = npt.NDArray[np.signedinteger[Any]]
"""Numbers of rows of a manifest, [n]."""

_FORMAT = "source 3"  # part of every fingerprint: change it when the same settings give other clips
_ATTEMPTS = 8
_ROW_BITS = 40
_DEADLINE_S = 60.0
_hung: dict[str, int] = {}  # file -> the least last frame that this process waited for in vain and will not again


@dataclass(frozen=True)
class _View:
    """How clips are cut from one video."""

    clip: ClipSpec
    segments: int
    views: int
    augment: Augment
    overlap: bool
    still: bool
    reader: ReaderChoice

    @property
    def shape(self) -> tuple[int, ...]:
        side = self.clip.resolution
        return (self.segments * self.views, 1 if self.still else self.clip.num_frames, side, side, 3)

    def read(
        self, entry: Entry, rng: np.random.Generator, out: npt.NDArray[np.uint8], erased: npt.NDArray[np.int64]
    ) -> None:
        """Write the clips of one video into `out` [V, T, H, W, 3] and the boxes to erase into `erased` [V, 4].

        Raises:
            DecodeError: the video cannot be read.
        """
        if not entry.decodable:
            raise DecodeError.known(entry.path, entry.reason)
        starts = None if isinstance(self.augment, NoAugment) else rng.random(self.segments)
        frames_ST = clip_frames(entry.frames, self.clip, self.segments, starts, overlap=self.overlap, rate=entry.fps)
        frames_ST = frames_ST[:, :1] if self.still else frames_ST
        wanted, places = np.unique(frames_ST, return_inverse=True)
        pixels = _decode(entry, wanted, self.reader)
        out_SV = out.reshape(self.segments, self.views, *out.shape[1:])
        for segment, place in enumerate(places.reshape(frames_ST.shape)):
            mine, back = np.unique(place, return_inverse=True)  # a repeated frame is resized once
            frames = pixels if len(mine) == len(wanted) else pixels[mine]
            cut, box = self._cut(frames, rng, antialias=entry.is_image)
            out_SV[segment] = cut if len(mine) == len(place) else cut[:, back]
            if box is not None:
                erased[segment] = box

    def _cut(
        self, frames: FramesTHWC, rng: np.random.Generator, *, antialias: bool
    ) -> tuple[npt.NDArray[np.uint8], Box | None]:
        """The spatial views of one segment [views, T, H, W, 3], and the box to erase."""
        size = self.clip.resolution
        if isinstance(self.augment, NoAugment):
            return spatial_views(frames, size, self.views, antialias=antialias), None
        cut, box = augment_clip(frames, self.augment, size, rng, antialias=antialias)
        return cut[None], box


def _decode(entry: Entry, frames: npt.NDArray[np.int64], choice: ReaderChoice) -> npt.NDArray[np.uint8]:
    last = int(frames[-1])  # what a request costs grows with it: readers decode up to it
    if last >= _hung.get(entry.path, math.inf):
        raise DecodeError("timeout", entry.path, f"the decoder did not come back in {_DEADLINE_S:.0f} s")
    try:
        with local(entry.path) as path:  # a slow network is no decoder that hangs
            try:
                return within(_DEADLINE_S, noted, decode, path, frames, pick(entry.readers, choice))
            except DecodeError as error:  # of a remote file it names the copy, which comes and goes
                raise DecodeError(error.kind, entry.path, error.cause.replace(path, entry.path)) from None
    except FileNotFoundError as error:
        raise DecodeError("open", entry.path, first_line(error)) from None
    except TimeoutError:
        _hung[entry.path] = last  # less than before, or it would not have been tried
        raise DecodeError("timeout", entry.path, f"the decoder did not come back in {_DEADLINE_S:.0f} s") from None


class PretrainSource:
    """The endless stream of pretraining clips: V = 1, unreadable videos replaced and reported."""

    def __init__(
        self,
        manifests: Sequence[tuple[Manifest, float | None]],
        data: DataSpec,
        seed: int,
        reader: ReaderChoice = "auto",
    ) -> None:
        """Mix the training splits of some data sets.

        Args:
            manifests: one for each entry of `data.mixture`, in its order, with its weight.
            data: clips and augmentation.
            seed: of the order and of the augmentation.
            reader: for the files that it is exact on.

        Raises:
            UserError: a data set has no readable training file, or files without the rate that the clips need; or the
                reader, or what its store needs, is not there.
        """
        require(reader)
        for manifest, _ in manifests:
            require_store(manifest.root)
        self._manifests = [manifest.subset("train") for manifest, _ in manifests]
        self._rows = [manifest.readable("train") for manifest in self._manifests]
        for entry, manifest, rows in zip(data.mixture, self._manifests, self._rows, strict=True):
            if not len(rows):
                raise UserError(f"data set '{entry.dataset}' has no readable file in its train split")
            _require_rate(manifest, rows, data.clip, f"data set '{entry.dataset}'")
        self._names = [entry.dataset for entry in data.mixture]
        self.unreadable = [
            _skipped(dataset, DecodeError.known(path, reason))
            for dataset, manifest in zip(self._names, self._manifests, strict=True)
            for path, reason in manifest.unreadable()
        ]
        self.num_videos = sum(map(len, self._manifests))
        still = all(_still(*part) for part in zip(self._manifests, self._rows, strict=True))
        self._view = _View(data.clip, 1, 1, data.augment, overlap=False, still=still, reader=reader)
        weights = [weight for _, weight in manifests if weight is not None]
        self._order = Order([len(rows) for rows in self._rows], weights or None, seed)
        self._seed = seed
        content = [_content(*part, data.clip) for part in zip(self._manifests, self._rows, strict=True)]
        self.fingerprint = _fingerprint("pretrain", seed, data.to_json(), weights, *content)

    @property
    def row_bytes(self) -> int:
        """Size of the clips of one row."""
        return math.prod(self._view.shape)

    def entries(self, positions: npt.NDArray[np.int64]) -> list[Entry]:
        """The videos at the given positions of the stream, as far as none of them has to be replaced."""
        place = self._order.at(positions)
        return [self._entry(*where) for where in zip(place.dataset.tolist(), place.row.tolist(), strict=True)]

    def _entry(self, dataset: int, row: int) -> Entry:
        return self._manifests[dataset].entry(int(self._rows[dataset][row]))

    def load(self, positions: npt.NDArray[np.int64]) -> Batch:
        """Decode the clips at the given positions of the stream.

        Raises:
            UserError: a remote file cannot be fetched.
        """
        with fetching([entry.path for entry in self.entries(positions) if entry.decodable]):
            return self._load(positions)

    def _load(self, positions: npt.NDArray[np.int64]) -> Batch:
        rows = _Filled(positions, self._view)
        place = self._order.at(positions)
        skipped, samples = [], []
        for i, position in enumerate(positions.tolist()):
            bad: list[Skipped] = []
            for attempt in range(_ATTEMPTS):
                dataset = int(place.dataset[i])
                row = self._row(int(place.row[i]), len(self._rows[dataset]), position, attempt)
                entry = self._entry(dataset, row)
                error = rows.fill(i, entry, keyed_rng(self._seed, "clip", position))
                if not error:
                    break
                bad.append(_skipped(self._names[dataset], error))
            skipped.append(json.dumps(bad) if bad else "")
            samples.append((dataset << _ROW_BITS) + int(self._rows[dataset][row]))
        return {
            **rows.batch(),
            "sample": np.asarray(samples, dtype=np.int64),
            "skipped": np.asarray(skipped, dtype=np.str_),
        }

    def _row(self, first: int, size: int, position: int, attempt: int) -> int:
        """The row to read: that of the order, then replacements drawn for this position."""
        return first if attempt == 0 else int(keyed_rng(self._seed, "replace", position, attempt).random() * size)


class EvalSource:
    """The clips of one split for a probe: `len` videos an epoch, none ever replaced."""

    def __init__(
        self,
        manifest: Manifest,
        split: Split,
        *,
        clip: ClipSpec,
        clips: int,
        views: int,
        augment: Augment,
        seed: int,
        shuffle: bool,
        reader: ReaderChoice = "auto",
    ) -> None:
        """Prepare one split.

        Args:
            manifest: of the data set.
            split: which part of it.
            clip: frames, distance, size.
            clips: segments of each video.
            views: spatial views of each segment; 1 with random crops.
            augment: none for the test.
            seed: of order and augmentation.
            shuffle: another order in each epoch; otherwise that of the manifest.
            reader: for the files that it is exact on.

        Raises:
            UserError: the split is empty, or holds videos without a label or without the rate that the clips need; or
                the reader, or what its store needs, is not there.
        """
        require(reader)
        require_store(manifest.root)
        self._manifest = manifest.subset(split)
        if not len(self._manifest):
            raise UserError(f"the data set in {manifest.root} has no file in its {split} split")
        if (self._manifest.column("label") == UNLABELLED).any():
            raise UserError(f"the data set in {manifest.root} has files without a label in its {split} split")
        if views > 1 and isinstance(augment, CropFlip):
            raise ValueError(f"{views} spatial views of random crops")
        _require_rate(self._manifest, self._manifest.readable(split), clip, f"the data set in {manifest.root}")
        rows = np.arange(len(self._manifest))
        self._view = _View(clip, clips, views, augment, overlap=True, still=_still(self._manifest, rows), reader=reader)
        self._order = Order([len(self._manifest)], None, seed) if shuffle else None
        self._seed = seed
        settings = [clip.to_json(), clips, views, augment.to_json(), shuffle]
        content = _content(self._manifest, rows, clip)
        self.fingerprint = _fingerprint("eval", seed, *settings, content)

    def __len__(self) -> int:
        return len(self._manifest)

    @property
    def row_bytes(self) -> int:
        """Size of the clips of one row."""
        return math.prod(self._view.shape)

    @property
    def paths(self) -> set[str]:
        """The files of the split as errors name them."""
        return {self._manifest.entry(row).path for row in range(len(self))}

    def rows_at(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Which videos of the split, counted in the order of the manifest, stand at the given positions."""
        return positions % len(self) if self._order is None else self._order.at(positions).row

    def load(self, positions: npt.NDArray[np.int64]) -> Batch:
        """Decode the videos at the given positions; position p lies in epoch p // len.

        Raises:
            UserError: a remote file cannot be fetched.
        """
        rows = _Filled(positions, self._view)
        entries = [self._manifest.entry(row) for row in self.rows_at(positions).tolist()]
        with fetching([entry.path for entry in entries if entry.decodable]):
            for i, position in enumerate(positions.tolist()):
                rows.fill(i, entries[i], keyed_rng(self._seed, "clip", position))
        return rows.batch()


class _Filled:
    """A batch while it is filled."""

    def __init__(self, positions: npt.NDArray[np.int64], view: _View) -> None:
        self._view = view
        self._position = positions.astype(np.int64)
        self._clips = np.zeros((len(positions), *view.shape), dtype=np.uint8)
        self._erased = np.zeros((len(positions), view.shape[0], 4), dtype=np.int64)
        self._entries: list[Entry] = []
        self._errors: list[str] = []

    def fill(self, i: int, entry: Entry, rng: np.random.Generator) -> DecodeError | None:
        """Read the video of row `i`, replacing what was tried before; returns what went wrong."""
        try:
            self._view.read(entry, rng, self._clips[i], self._erased[i])
            error = None
        except DecodeError as failure:
            error = failure
        self._entries[i:], self._errors[i:] = [entry], [str(error or "")]
        return error

    def batch(self) -> Batch:
        return {
            "position": self._position,
            "clips": self._clips,
            "erased": self._erased,
            "label": np.asarray([entry.label for entry in self._entries], dtype=np.int64),
            "path": np.asarray([entry.path for entry in self._entries], dtype=np.str_),
            "error": np.asarray(self._errors, dtype=np.str_),
        }


def _skipped(dataset: str, error: DecodeError) -> Skipped:
    return {"dataset": dataset, "path": error.path, "reason": str(error)}


def _require_rate(manifest: Manifest, rows: Rows, clip: ClipSpec, where: str) -> None:
    """Frames by time need the rate of every video that has several."""
    if clip.fps is None:
        return
    unknown = rows[(manifest.column("frames")[rows] > 1) & ~(manifest.column("fps")[rows] > 0)]
    if len(unknown):
        raise UserError(
            f"{where} has {len(unknown)} videos of unknown frame rate, such as {manifest.entry(int(unknown[0])).path}: "
            "give the clip a frame_step instead of fps"
        )


def _content(manifest: Manifest, rows: Rows, clip: ClipSpec) -> str:
    """Digest of what decides the clips of some rows: files, labels and lengths, not where they lie or who reads."""
    chosen = np.zeros(len(manifest), dtype=np.bool_)
    chosen[rows] = True
    numbers = ("label", "frames", "decodable", *(["fps"] if clip.fps is not None else []))
    digests = {name: hashlib.sha256() for name in ("path", "ends", "image", *numbers)}
    start = 0
    for batch in manifest.table.to_batches():
        kept = batch.filter(pa.array(chosen[start : start + len(batch)]))
        start += len(batch)
        digests["path"].update("".join(kept["path"].to_pylist()).encode())
        digests["ends"].update(pc.binary_length(kept["path"]).to_numpy().tobytes())
        digests["image"].update(holds(kept["readers"], IMAGE).tobytes())
        for name in numbers:
            digests[name].update(kept[name].to_numpy(zero_copy_only=False).tobytes())
    return hashlib.sha256(b"".join(digest.digest() for digest in digests.values())).hexdigest()


def _still(manifest: Manifest, rows: Rows) -> bool:
    """Whether a clip of every file is one frame repeated."""
    return bool((manifest.column("frames")[rows] <= 1).all())


def _fingerprint(*parts: Any) -> str:
    return hashlib.sha256(json.dumps([_FORMAT, *parts], sort_keys=True).encode()).hexdigest()
