"""Signatures, their store, and the search for pairs, on small videos and their re-encoded copies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vjepa_exp.data import signature_store
from vjepa_exp.data.guard import Lost, in_turn
from vjepa_exp.data.index import index
from vjepa_exp.data.leaks import candidates, files_of, same_bytes, same_pictures
from vjepa_exp.data.manifest import FILE_COLUMNS, Manifest
from vjepa_exp.data.readers import DecodeError
from vjepa_exp.data.remote import Remote
from vjepa_exp.data.signature import FRAMES, distance, signature
from vjepa_exp.data.signature_store import SignatureStore, keep_signatures
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.removal import SAME_PICTURES

Film = Callable[[float], np.ndarray]
"""Picture [H, W, 3] at a share of the duration."""


def film(seed: int, background: int = 0) -> Film:
    """A bright square on a path of its own over a still texture."""
    cells = np.random.default_rng(100 + background).integers(40, 160, (6, 8, 3), dtype=np.uint8)
    scene = np.asarray(Image.fromarray(cells).resize((128, 96), Image.Resampling.BICUBIC))
    phase = np.random.default_rng(seed).random(4)

    def picture(share: float) -> np.ndarray:
        picture = scene.copy()
        x, y = (0.5 + 0.35 * np.sin(2 * np.pi * (phase[i] + (0.5 + phase[i + 1]) * share)) for i in (0, 2))
        picture[int(96 * y) - 10 : int(96 * y) + 10, int(128 * x) - 10 : int(128 * x) + 10] = 240
        return picture

    return picture


def shoot(
    path: Path,
    film: Film,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    size: tuple[int, int] = (128, 96),
    rate: int = 25,
    bars: int = 0,
) -> Path:
    """Encode two seconds of a film."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(rate), options=options or {"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = size[0], size[1] + 2 * bars, "yuv420p"
        for i in range(2 * rate):
            picture = np.asarray(Image.fromarray(film(i / (2 * rate))).resize(size))
            padded = np.pad(picture, ((bars, bars), (0, 0), (0, 0)))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(padded, format="rgb24")))
        container.mux(stream.encode())
    return path


COPIES: dict[str, dict[str, Any]] = {
    "crf36.mp4": {"options": {"crf": "36"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"crf": "40", "b": "0", "deadline": "realtime", "cpu-used": "8"}},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"b": "200000"}},  # no index of frames: decoded in turn
    "small.mp4": {"size": (64, 48)},
    "square.mp4": {"size": (112, 112)},
    "faster.mp4": {"rate": 30},
    "bars.mp4": {"bars": 16},
}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two films before one background, one before another; copies of the first."""
    root = tmp_path_factory.mktemp("films")
    for seed, background in ((1, 0), (2, 0), (3, 1)):
        shoot(root / "train" / f"{seed}.mp4", film(seed, background))
    for name, changes in COPIES.items():
        shoot(root / "val" / name, film(1), **changes)
    shoot(root / "val" / "other.mp4", film(4, 0))
    (root / "val" / "same.mp4").write_bytes((root / "train" / "3.mp4").read_bytes())
    return root


def between(one: Path, other: Path) -> float:
    return float(distance(signature(str(one)).grey[None], signature(str(other)).grey[None])[0])


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_near_its_original(films: Path, name: str) -> None:
    assert between(films / "train/1.mp4", films / "val" / name) < SAME_PICTURES


def test_another_action_before_the_same_background_is_not(films: Path) -> None:
    for other in (films / "train/2.mp4", films / "val/other.mp4"):
        assert between(films / "train/1.mp4", other) > 3 * SAME_PICTURES


def test_an_image_is_a_video_in_which_nothing_moves(tmp_path: Path) -> None:
    for name, seed in (("a.png", 0), ("b.png", 1)):
        Image.fromarray(film(seed, seed)(0.3)).save(tmp_path / name)
    Image.open(tmp_path / "a.png").resize((200, 150)).save(tmp_path / "copy.jpg", quality=60)
    assert len(set(signature(str(tmp_path / "a.png")).hashes.tolist())) == 1
    assert (
        between(tmp_path / "a.png", tmp_path / "copy.jpg")
        < SAME_PICTURES
        < between(tmp_path / "a.png", tmp_path / "b.png")
    )


def test_flat_frames_say_nothing(make_video, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), (90, 90, 90)).save(tmp_path / "grey.png")
    assert signature(str(tmp_path / "grey.png")).hashes.tolist() == [0] * FRAMES
    (tmp_path / "none.mp4").write_bytes(b"no video")
    with pytest.raises(DecodeError):
        signature(str(tmp_path / "none.mp4"))


def stores(films: Path, folder: Path) -> tuple[SignatureStore, SignatureStore, list[str], list[str]]:
    manifest = index(films)
    first, second = (files_of(manifest.subset(split)) for split in ("train", "val"))
    kept = [keep_signatures(files.paths, folder / name, in_turn) for files, name in ((first, "train"), (second, "val"))]
    return *kept, first.names, second.names


def test_pairs_are_found_among_all(films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signature_store, "PART", 2)  # several parts
    first, second, train, val = stores(films, tmp_path)
    pairs = same_pictures(first, second, SAME_PICTURES)
    found = {(train[i], val[j]) for i, j in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)}
    assert found == {("train/1.mp4", f"val/{name}") for name in COPIES} | {("train/3.mp4", "val/same.mp4")}
    assert (pairs.distance < SAME_PICTURES).all()


def test_the_same_bytes_are_found_by_reading_files_of_one_size(films: Path) -> None:
    manifest = index(films)
    first, second = (files_of(manifest.subset(split)) for split in ("train", "val"))
    read = list[str]()

    def each(work: Any, items: Sequence[Any]) -> Iterator[Any]:
        read.extend(items)
        return in_turn(work, items)

    pairs = same_bytes(first, second, each)
    assert [(first.names[i], second.names[j]) for i, j in zip(pairs.first, pairs.second, strict=True)] == [
        ("train/3.mp4", "val/same.mp4")
    ]
    assert sorted(Path(path).name for path in read) == ["3.mp4", "same.mp4"]


def test_signatures_are_made_once_and_again_for_files_that_changed(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signature_store, "PART", 2)
    paths = [str(shoot(tmp_path / f"{i}.mp4", film(i), rate=8)) for i in range(3)]
    made = list[str]()

    def each(work: Any, items: Sequence[Any]) -> Iterator[Any]:
        made.extend(Path(item).stem for item in items)
        return in_turn(work, items)

    before = keep_signatures(paths, tmp_path / "kept", each).hashes()
    assert made == ["0", "1", "2"]
    assert keep_signatures(paths, tmp_path / "kept", each).hashes().tolist() == before.tolist()
    assert made == ["0", "1", "2"]
    shoot(tmp_path / "1.mp4", film(9), rate=8)
    shoot(tmp_path / "new.mp4", film(0), rate=8)
    after = keep_signatures([paths[1], paths[0], str(tmp_path / "new.mp4")], tmp_path / "kept", each).hashes()
    assert sorted(made[3:]) == ["1", "new"]
    assert after[1].tolist() == after[2].tolist() == before[0].tolist()
    assert after[0].tolist() != before[1].tolist()


def test_a_killed_call_continues_and_unreadable_files_are_listed(tmp_path: Path) -> None:
    paths = [str(shoot(tmp_path / f"{i}.mp4", film(i), rate=8)) for i in range(3)]
    (tmp_path / "bad.mp4").write_bytes(b"nothing")
    paths.append(str(tmp_path / "bad.mp4"))
    made = list[str]()

    def killed(work: Any, items: Sequence[Any]) -> Iterator[Any]:
        for number, item in enumerate(items[:2]):
            made.append(item)
            yield number, work(item)
        raise KeyboardInterrupt

    def each(work: Any, items: Sequence[Any]) -> Iterator[Any]:
        made.extend(items)
        return guarded(work, items)

    with pytest.raises(KeyboardInterrupt):
        keep_signatures(paths, tmp_path / "kept", killed)
    store = keep_signatures(paths, tmp_path / "kept", each)
    assert made == paths
    [(path, reason)] = store.unreadable()
    assert path == paths[3]
    assert "Invalid data" in reason
    assert store.hashes()[3].tolist() == [0] * FRAMES
    assert pq.read_table(tmp_path / "kept" / "00000.parquet").num_rows == 4
    assert not list((tmp_path / "kept").glob("*.jsonl"))


def test_signatures_that_could_not_be_written_are_not_made_again(tmp_path: Path) -> None:
    made, way = list[str](), tmp_path / "kept" / "00000.parquet.part"
    paths = [str(shoot(tmp_path / f"{seed}.mp4", film(seed))) for seed in range(2)]
    way.mkdir(parents=True)

    def each(work: Any, items: Sequence[Any]) -> Iterator[Any]:
        made.extend(items)
        return in_turn(work, items)

    with pytest.raises(UserError, match=r"cannot be written: .*Is a directory"):
        keep_signatures(paths, tmp_path / "kept", each)
    way.rmdir()
    assert keep_signatures(paths, tmp_path / "kept", each).hashes().any(axis=1).all()
    assert made == paths


def guarded(work: Any, items: Sequence[Any]) -> Iterator[Any]:
    """What a guard makes of work that raises."""
    for number, item in enumerate(items):
        try:
            yield number, work(item)
        except DecodeError as error:
            yield number, Lost(str(error))


def test_candidates_are_all_pairs_that_agree_in_a_band_and_no_flat_ones() -> None:
    rng = np.random.default_rng(0)
    first = rng.integers(1, 2**63, (300, FRAMES)).astype(np.uint64)
    second = rng.integers(1, 2**63, (40, FRAMES)).astype(np.uint64)
    second[7] = first[123] ^ np.uint64(0b1011)  # one band differs, three agree
    second[8] = first[9] ^ np.uint64(0x0001_0001_0001_0001)  # each band differs
    second[9], second[9, 3] = first[9] ^ np.uint64(0x0001_0001_0001_0001), first[9, 3]  # one frame agrees
    first[50], second[20] = 0, 0
    i, j = candidates(first, second)
    assert list(zip(i.tolist(), j.tolist(), strict=True)) == [(9, 9), (123, 7)]


def test_a_bucket_that_everyone_is_in_is_gone_through_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vjepa_exp.data.leaks._AT_ONCE", 64)
    same = np.full((30, FRAMES), 5, dtype=np.uint64)
    i, j = candidates(same, same[:20])
    assert sorted(zip(i.tolist(), j.tolist(), strict=True)) == [(a, b) for a in range(30) for b in range(20)]


def test_no_videos_have_no_pairs() -> None:
    none, some = np.zeros((0, FRAMES), np.uint64), np.ones((3, FRAMES), np.uint64)
    assert [len(part) for pair in (candidates(none, some), candidates(some, none)) for part in pair] == [0] * 4


def test_a_set_that_lies_elsewhere_is_refused() -> None:
    rows: dict[str, list[Any]] = {name: [] for name in ("path", "label", "split", *FILE_COLUMNS.names)}
    with pytest.raises(UserError, match="lies in s3://bucket/videos: copy it"):
        files_of(Manifest.from_columns(rows, Remote("s3://bucket/videos"), ()))
