from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from vjepa_exp.data.guard import each_locally
from vjepa_exp.data.index import index
from vjepa_exp.data.listing import list_files
from vjepa_exp.data.manifest import Manifest
from vjepa_exp.spec.errors import UserError


def by_path(manifest: Manifest) -> dict[str, dict[str, Any]]:
    return {row["path"]: row for row in manifest.table.to_pylist()}


def test_class_folders_below_splits(video_folder: Path) -> None:
    manifest = index(video_folder)
    rows = by_path(manifest)
    assert manifest.classes == ("down", "up")
    assert len(manifest.subset("train")) == 7
    assert len(manifest.subset("val")) == 5
    good = rows["train/up/2.mp4"]
    assert (good["label"], good["frames"], good["width"], good["height"]) == (1, 20, 64, 48)
    assert (good["codec"], good["fps"], good["decodable"]) == ("h264", 10.0, True)
    assert good["readers"] == "pyav,torchcodec,decord"
    bad = rows["train/up/broken.mp4"]
    assert not bad["decodable"]
    assert "Invalid data" in bad["reason"]


def test_class_folders_without_splits_are_training_data(video_folder: Path) -> None:
    manifest = index(video_folder / "train")
    assert manifest.classes == ("down", "up")
    assert set(manifest.column("split")) == {"train"}


def test_files_in_no_class_folder_have_no_label(video_folder: Path) -> None:
    manifest = index(video_folder / "train" / "down")
    assert manifest.column("label").tolist() == [-1, -1, -1]


def test_reference_lists_with_spaces_quotes_and_letters(make_video, tmp_path: Path) -> None:
    for name in ("plain.mp4", "two words.mp4", "über uns.mp4", 'a "quoted".mp4'):
        make_video(tmp_path / "clips" / name, frames=4)
    (tmp_path / "train.csv").write_text(
        'clips/plain.mp4 0\nclips/two words.mp4 2\n"clips/über uns.mp4" 1\n\n"clips/a ""quoted"".mp4" 0\n',
        encoding="utf-8",
    )
    make_video(tmp_path / "clips" / "other.mp4", frames=4)
    (tmp_path / "val.csv").write_text(f"{tmp_path}/clips/other.mp4 2\n")
    manifest = index(tmp_path / "train.csv", val=tmp_path / "val.csv")
    assert manifest.table["decodable"].to_pylist() == [True] * 5
    assert manifest.column("label").tolist() == [0, 2, 1, 0, 2]
    assert manifest.column("split").tolist() == ["train"] * 4 + ["val"]
    assert manifest.classes == ("0", "1", "2")


def test_manifest_csv_with_names_splits_and_missing_labels(make_video, tmp_path: Path) -> None:
    make_video(tmp_path / "a, b.mp4", frames=4)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "m.csv").write_text(
        'path,split,label\n"a, b.mp4",val,run\n"a, b.mp4",train,\n"a, b.mp4",,hop\n'
    )
    manifest = index(tmp_path / "lists" / "m.csv", root=tmp_path)
    assert manifest.classes == ("hop", "run")
    assert manifest.column("label").tolist() == [1, -1, 0]
    assert manifest.column("split").tolist() == ["val", "train", "train"]
    assert manifest.decodable().entry(0).path == str(tmp_path / "a, b.mp4")


def test_images_are_indexed_with_the_image_reader(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "cat" / "a.png")
    (tmp_path / "cat" / "b.jpg").write_bytes(b"\xff\xd8 no jpeg")
    rows = by_path(index(tmp_path))
    assert (rows["cat/a.png"]["readers"], rows["cat/a.png"]["frames"], rows["cat/a.png"]["width"]) == ("image", 1, 40)
    assert not rows["cat/b.jpg"]["decodable"]


def test_every_bad_file_is_listed_with_its_reason(make_video, tmp_path: Path) -> None:
    whole = make_video(tmp_path / "good.mp4", frames=20).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("a note\n" * 400)
    (tmp_path / "folder.mp4").mkdir()
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    listed = ["good", "cut", "empty", "text", "sound", "gone", "folder"]
    (tmp_path / "list.csv").write_text("".join(f"{name}.mp4 0\n" for name in listed))
    rows = by_path(index(tmp_path / "list.csv"))
    assert [name for name in listed if rows[f"{name}.mp4"]["decodable"]] == ["good"]
    assert rows["empty.mp4"]["reason"] == "empty file"
    assert rows["gone.mp4"]["reason"] == "No such file or directory"
    assert rows["sound.mp4"]["reason"] == "no_video: no video stream"
    assert all(row["reason"] and "\n" not in row["reason"] for row in rows.values() if not row["decodable"])


def test_a_file_cut_after_its_index_is_listed_as_truncated(make_video, tmp_path: Path) -> None:
    source = make_video(tmp_path / "good.mp4", frames=20)
    with av.open(str(source)) as old, av.open(str(tmp_path / "f.mp4"), "w", options={"movflags": "faststart"}) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    whole = (tmp_path / "f.mp4").read_bytes()
    (tmp_path / "f.mp4").write_bytes(whole[: -len(whole) // 6])
    assert "truncated in packet" in by_path(index(tmp_path))["f.mp4"]["reason"]


def test_a_file_that_is_listed_twice_is_looked_into_once(video_folder: Path, tmp_path: Path) -> None:
    files = sorted(video_folder.rglob("*.mp4")) * 2
    (tmp_path / "list.csv").write_text("".join(f"{file} {i % 3}\n" for i, file in enumerate(files)))
    seen: list[tuple[int, int]] = []
    manifest = index(tmp_path / "list.csv", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 12) for i in range(13)]
    assert [manifest.root / path for path in manifest.column("path")] == files
    assert manifest.column("label").tolist() == [i % 3 for i in range(24)]
    assert manifest.column("frames")[:12].tolist() == manifest.column("frames")[12:].tolist()


def test_several_processes_find_the_same(video_folder: Path) -> None:
    each = partial(each_locally, processes=2, deadline_s=60)
    assert index(video_folder, each=each).table.equals(index(video_folder).table)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file system with holes")
def test_a_file_that_never_ends_is_listed_with_its_reason(make_video, tmp_path: Path) -> None:
    make_video(tmp_path / "good.mp4")
    endless = make_video(tmp_path / "endless.mpg", codec="mpeg2video")
    os.truncate(endless, 2**40)  # a hole of a terabyte: a demuxer looks for the next packet for half an hour
    rows = by_path(index(tmp_path, each=partial(each_locally, processes=2, deadline_s=5)))
    assert rows["good.mp4"]["decodable"]
    assert not rows["endless.mpg"]["decodable"]
    assert rows["endless.mpg"]["reason"] == "its process did not come back in 5 s"
    assert rows["endless.mpg"]["bytes"] == 2**40


def test_files_lie_in_the_order_of_their_names_and_links_do_not_lead_in_circles(tmp_path: Path) -> None:
    for name in ("b/2.mp4", "b/10.mp4", "a.mp4", "b.x/1.mp4", "c/d/e.mp4", "c/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "c" / "up").symlink_to(tmp_path)
    (tmp_path / "z").symlink_to(tmp_path / "b")
    listed = list_files(tmp_path)
    assert listed.table["path"].to_pylist() == [
        "a.mp4",
        "b/10.mp4",
        "b/2.mp4",
        "b.x/1.mp4",
        "c/d/e.mp4",
        "z/10.mp4",
        "z/2.mp4",
    ]
    assert listed.classes == ("b", "b.x", "c", "z")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_not_unicode_is_named(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4")).touch()
    with pytest.raises(UserError, match=r"caf\\udce9.mp4' is not Unicode"):
        list_files(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists no video"),
        ("a.mp4 0\nb.mp4\n", r"list.csv:2: expected 'path label' with a whole number, found 'b.mp4'"),
        ("a.mp4 cat\n", r"list.csv:1: expected 'path label'"),
        ("path,label,split\na.mp4,0,train\nb.mp4,0,dev\n", r"list.csv:3: split 'dev' is neither train nor val"),
        ("path,label\n,0\n", r"list.csv:2: no path"),
        ("a.mp4 99999999999\n", "too large"),
    ],
)
def test_a_list_that_cannot_be_understood_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        index(tmp_path / "list.csv")


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_a_class_called_train_is_not_taken_for_a_split(tmp_path: Path) -> None:
    touch(tmp_path, "set/train/1.mp4", "set/bus/2.mp4", "set/car/d/3.png", "set/notes/read.txt")
    message = r"set holds train beside other folders with videos or images: bus, car; .* index .*set/train, if classes"
    with pytest.raises(UserError, match=message):
        list_files(tmp_path / "set")
    touch(tmp_path, "set/val/4.mp4", "set/plane/5.mp4", "set/ship/6.mp4")
    message = r"holds train and val beside .*: bus, car, plane and 1 more; .* index .*set/train --val .*set/val, if"
    with pytest.raises(UserError, match=message):
        list_files(tmp_path / "set")
    touch(tmp_path, "good/train/a/1.mp4", "good/test/2.mp4", "good/lists/read.txt", "good/.git/x")
    assert list_files(tmp_path / "good").table["path"].to_pylist() == ["train/a/1.mp4"]


def test_a_source_with_its_own_val_split_takes_no_second_one(tmp_path: Path) -> None:
    touch(tmp_path, "set/train/a/1.mp4", "set/val/a/2.mp4", "held/a/3.mp4")
    with pytest.raises(UserError, match=r"set holds val files too, such as val/a/2.mp4: leave --val out if"):
        list_files(tmp_path / "set", val=tmp_path / "held")
    (tmp_path / "both.csv").write_text("path,label,split\nset/train/a/1.mp4,a,train\nset/val/a/2.mp4,a,val\n")
    with pytest.raises(UserError, match=r"both.csv holds val files too, such as set/val/a/2.mp4"):
        list_files(tmp_path / "both.csv", val=tmp_path / "held")
    with pytest.raises(UserError, match=r"set holds train files too, such as .*set/train/a/1.mp4: .* the val folder"):
        list_files(tmp_path / "held", val=tmp_path / "set")
    listed = list_files(tmp_path / "set/train", val=tmp_path / "set/val")
    assert listed.table["path"].to_pylist() == ["a/1.mp4", str(tmp_path / "set/val/a/2.mp4")]
    assert listed.table["split"].to_pylist() == ["train", "val"]


def test_no_file_is_in_both_splits_whatever_it_is_called(tmp_path: Path) -> None:
    touch(tmp_path, "set/a/1.mp4", "set/b/2.mp4", "set/b/3.mp4")
    (tmp_path / "link").symlink_to(tmp_path / "set")
    (tmp_path / "train.csv").write_text("set/a/1.mp4 0\nset/b/2.mp4 1\n")
    for same in ("set/b/2.mp4", "set/a/../b/2.mp4", "link/b/2.mp4", f"{tmp_path}/set/b/2.mp4"):
        (tmp_path / "val.csv").write_text(f"set/b/3.mp4 1\n{same} 1\n")
        with pytest.raises(UserError, match=r"set/b/2.mp4 is in both .*train.csv and .*val.csv: no file may be in"):
            list_files(tmp_path / "train.csv", val=tmp_path / "val.csv")
    with pytest.raises(UserError, match=r"b/2.mp4 is in both .*set and .*link/b"):
        list_files(tmp_path / "set", val=tmp_path / "link/b")
    for name, uri in (("train", "s3://x/a.mp4"), ("val", "s3://x/a.mp4")):
        (tmp_path / f"{name}.csv").write_text(f"{uri} 0\n")
    with pytest.raises(UserError, match=r"s3://x/a.mp4 is in both"):
        list_files(tmp_path / "train.csv", val=tmp_path / "val.csv")


def test_sources_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        index(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not a UTF-8 text file"):
        index(tmp_path / "binary.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="lists no video or image"):
        index(tmp_path / "empty")


def test_the_real_lists(shared_dir: Path) -> None:
    videos = shared_dir / "videos"
    manifest = index(videos / "lists/weizmann_train.csv", val=videos / "lists/weizmann_val.csv", root=videos)
    assert (len(manifest.subset("train")), len(manifest.subset("val")), len(manifest.classes)) == (60, 30, 10)
    assert manifest.table["decodable"].to_pylist() == [True] * 90
    assert set(manifest.column("readers")) == {"pyav"}  # AVI
