"""The stream: exact order from any step, whatever decodes it."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from vjepa_exp.data.crash import noted
from vjepa_exp.data.readers import DecodeError
from vjepa_exp.runtime import stream as stream_module
from vjepa_exp.runtime.rows import Rows, StreamOptions
from vjepa_exp.runtime.stream import Part, stream, streams

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]


@dataclass(frozen=True)
class Countable:
    """Rows that can be recognised; position `deadly` kills the process that loads it, once."""

    deadly: int = -1
    grave: Path = Path()
    side: int = 4

    def load(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        """Rows whose clips hold their position."""
        if self.deadly in positions and not self.grave.exists():
            self.grave.touch()
            os._exit(1)
        shape = (len(positions), 1, 2, self.side, self.side, 3)
        clips = np.zeros(shape, np.uint8) + positions[:, None, None, None, None, None] % 251
        error = np.array(["bad" if p % 7 == 0 else "" for p in positions])
        process = np.full(len(positions), os.getpid())
        return {"position": positions, "clips": clips.astype(np.uint8), "error": error, "process": process}


@dataclass(frozen=True)
class Heavy(Countable):
    """As large as the manifests of millions of videos."""

    manifest: np.ndarray = field(default_factory=lambda: np.random.default_rng(0).integers(0, 2**60, 15_000_000))

    def load(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        """Rows that tell what the source holds."""
        return {**super().load(positions), "row": self.manifest[positions]}


READER = """
import ctypes

def decode(path):
    if path == "3.mp4":
        ctypes.string_at(0)  # as a decoder does it: a signal from os.kill lets this thread go on for a while
"""


@dataclass(frozen=True)
class Deadly:
    """Position 3 is a file that no decoder survives; the reader is the module `deadly_reader` in `folder`."""

    folder: str

    def load(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        """Rows, read one by one."""
        sys.path.insert(0, self.folder)
        reader, errors = import_module("deadly_reader"), []
        for position in positions.tolist():
            try:
                noted(reader.decode, f"{position}.mp4")
                errors.append("")
            except DecodeError as failure:
                errors.append(str(failure))
        return {"position": positions, "error": np.array(errors, dtype=np.str_)}


def options(decode_workers: int = 1, steps_per_block: int = 3) -> StreamOptions:
    return StreamOptions(decode_workers, steps_per_block, row_bytes=96)


def test_every_rank_reads_its_share_from_any_step() -> None:
    for rank in range(2):
        rows = Rows(batch_size=6, num_batches=8, rank=rank, world=2)
        batches = list(stream(Countable(), rows, options(decode_workers=1 + rank), first=3))
        assert [b["position"].tolist() for b in batches] == [
            [k * 6 + rank * 3 + i for i in range(3)] for k in range(3, 8)
        ]
        assert all((b["clips"][:, 0, 0, 0, 0, 0] == b["position"] % 251).all() for b in batches)
        assert batches[0]["clips"].shape == (3, 1, 2, 4, 4, 3)
        assert batches[0]["clips"].dtype == np.uint8
        assert ((batches[0]["error"] != "") == (batches[0]["position"] % 7 == 0)).all()


def test_batches_larger_than_a_block_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "MAX_BLOCK_BYTES", 96 * 2)
    rows = Rows.epochs(epoch_size=11, num_epochs=2, batch_size=5)
    batches = list(stream(Countable(), rows, options()))
    assert [len(b["position"]) for b in batches] == [5, 5, 1, 5, 5, 1]
    assert np.concatenate([b["position"] for b in batches]).tolist() == list(range(22))


def two_parts() -> list[Part]:
    """Six batches of small rows and three of larger ones, which end in the middle of a block."""
    small = Part(Countable(), Rows(batch_size=4, num_batches=8), options(), first=2)
    large = Part(Countable(side=8), Rows.epochs(epoch_size=7, num_epochs=1, batch_size=3), options(steps_per_block=2))
    return [small, large]


def test_sources_are_read_one_after_the_other_by_the_same_decoder() -> None:
    nothing = Part(Countable(), Rows(batch_size=4, num_batches=5), options(), first=5)
    one, other = two_parts()
    small, nothing_of_it, large = streams([one, nothing, other])
    taken = [*(next(small) for _ in range(6)), *large]  # the first one was not asked whether there is more
    assert list(small) == list(nothing_of_it) == []
    assert [b["position"].tolist() for b in taken[6:]] == [[0, 1, 2], [3, 4, 5], [6]]
    assert np.concatenate([b["position"] for b in taken[:6]]).tolist() == list(range(8, 32))
    assert [b["clips"].shape[3] for b in taken] == [4] * 6 + [8] * 3
    assert all((b["clips"][:, 0, 0, 0, 0, 0] == b["position"] % 251).all() for b in taken)
    assert len({process for b in taken for process in b["process"].tolist()}) == 1


def test_a_source_that_is_read_too_early_is_refused() -> None:
    small, large = streams(two_parts())
    next(small)
    with pytest.raises(RuntimeError, match="source 1 is read before all of source 0 was taken"):
        next(large)


def test_a_decoder_that_dies_once_loses_no_row(tmp_path: Path) -> None:
    source = Countable(deadly=10, grave=tmp_path / "grave")
    batches = list(stream(source, Rows(batch_size=4, num_batches=6), options(steps_per_block=1)))
    assert (tmp_path / "grave").exists()
    assert np.concatenate([b["position"] for b in batches]).tolist() == list(range(24))


def test_a_source_with_a_large_manifest_reaches_the_decoders() -> None:
    source = Heavy()  # 120 MB: more than Ray takes as an argument of an actor's class
    batches = list(stream(source, Rows(batch_size=4, num_batches=3), options(decode_workers=2, steps_per_block=1)))
    assert np.concatenate([batch["row"] for batch in batches]).tolist() == source.manifest[:12].tolist()


def test_seams_between_segments_lose_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "SEGMENT_BLOCKS", 4)
    monkeypatch.setattr(stream_module, "SEGMENT_LEAD", 2)
    rows = Rows(batch_size=4, num_batches=13)
    batches = list(stream(Countable(), rows, options(decode_workers=2, steps_per_block=1), first=2))
    assert np.concatenate([b["position"] for b in batches]).tolist() == list(range(8, 52))


def test_a_file_that_kills_its_decoder_is_replaced(tmp_path: Path) -> None:
    """A reader that dies of one file, in a real decoder of Ray: the row gets a reason, the stream goes on."""
    (tmp_path / "deadly_reader.py").write_text(READER, encoding="utf-8")
    rows, how = Rows(batch_size=2, num_batches=4), StreamOptions(1, 1, 96, notes=tmp_path / "decoding")
    batches = list(stream(Deadly(str(tmp_path)), rows, how))
    assert np.concatenate([b["position"] for b in batches]).tolist() == list(range(8))
    errors = np.concatenate([b["error"] for b in batches])
    assert [bool(error) for error in errors] == [p == 3 for p in range(8)]
    assert "crashed the decoder" in errors[3]
