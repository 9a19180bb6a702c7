from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vjepa_exp.data.manifest import UNLABELLED, Manifest, read_manifest, require_labelled, write_manifest
from vjepa_exp.spec.errors import UserError


def rows(count: int = 6) -> list[dict[str, Any]]:
    return [
        {
            "path": f"clips/größe {i}.mp4",
            "label": i % 2,
            "split": "train" if i < 4 else "val",
            "frames": 10 + i,
            "fps": 25.0,
            "width": 64,
            "height": 48,
            "codec": "h264",
            "bytes": 1000 + i,
            "decodable": i != 3,
            "reason": "open: Invalid data" if i == 3 else "",
            "readers": "pyav,torchcodec,decord" if i != 3 else "",
        }
        for i in range(count)
    ]


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return Manifest.from_rows(rows(), tmp_path / "data", ("up", "down"))


def test_what_is_written_is_read_again(manifest: Manifest, tmp_path: Path) -> None:
    write_manifest(manifest, tmp_path / "lists" / "m.parquet")
    again = read_manifest(tmp_path / "lists" / "m.parquet")
    assert again.table.equals(manifest.table)
    assert (again.root, again.classes) == (manifest.root, manifest.classes)
    assert [p.name for p in (tmp_path / "lists").iterdir()] == ["m.parquet"]


def test_a_folder_with_its_manifest_can_be_moved(manifest: Manifest, tmp_path: Path) -> None:
    write_manifest(manifest, tmp_path / "m.parquet")
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (tmp_path / "m.parquet").rename(moved / "m.parquet")
    assert read_manifest(moved / "m.parquet").entry(1).path == str(moved / "data" / "clips/größe 1.mp4")


def test_the_same_manifest_is_the_same_bytes(manifest: Manifest, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_manifest(manifest, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_parts_keep_order_and_classes(manifest: Manifest) -> None:
    train = manifest.subset("train")
    assert train.column("frames").tolist() == [10, 11, 12, 13]
    assert train.decodable().column("frames").tolist() == [10, 11, 12]
    assert train.unreadable() == [(str(manifest.root / "clips/größe 3.mp4"), "open: Invalid data")]
    assert manifest.take(np.array([5, 0])).column("frames").tolist() == [15, 10]
    assert manifest.subset("val").classes == ("up", "down")
    entry = manifest.entry(3)
    assert (entry.label, entry.decodable, entry.reason) == (1, False, "open: Invalid data")


def test_a_part_travels_without_the_whole(tmp_path: Path) -> None:
    whole = Manifest.from_rows(rows(4) * 2000, tmp_path, ("up", "down"))
    part = whole.take(np.arange(4))
    assert len(pickle.dumps(part)) < 5000
    assert pickle.loads(pickle.dumps(part)).table.equals(part.table)


def test_no_manifest_is_said_in_one_line(tmp_path: Path) -> None:
    pq.write_table(pa.table({"path": ["a"]}), tmp_path / "other.parquet")
    (tmp_path / "text.parquet").write_text("path,label\n")
    for name in ("none.parquet", "other.parquet", "text.parquet"):
        with pytest.raises(UserError, match=name) as caught:
            read_manifest(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_manifest_of_another_version_says_how_to_make_it_anew(manifest: Manifest, tmp_path: Path) -> None:
    write_manifest(manifest, tmp_path / "k400.parquet")
    table = pq.read_table(tmp_path / "k400.parquet")
    old = table.drop_columns("readers").replace_schema_metadata(
        {**table.schema.metadata, b"format": b"vjepa-exp manifest 1"}
    )
    pq.write_table(old, tmp_path / "k400.parquet")
    with pytest.raises(UserError, match=r"another version.*vjepa-exp data index FOLDER_OR_CSV --out k400"):
        read_manifest(tmp_path / "k400.parquet")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "train"}, "data set 'mine' has no file in its val split"),
        ({"label": UNLABELLED}, "data set 'mine' has 4 files without a label in its train split"),
    ],
)
def test_a_probe_needs_labels_in_both_splits(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "mine.parquet"
    write_manifest(Manifest.from_rows(rows(), tmp_path, ("up", "down")), path)
    require_labelled("mine", path)
    write_manifest(Manifest.from_rows([row | change for row in rows()], tmp_path, ("up", "down")), path)
    with pytest.raises(UserError, match=message):
        require_labelled("mine", path)


def test_a_place_that_cannot_be_written_is_said_in_one_line(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_manifest(manifest, tmp_path / "file" / "m.parquet")
