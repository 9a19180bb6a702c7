"""A set encoded again: every row of the source, nothing done twice, nothing lost in silence."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import av
import numpy as np
import pytest
from PIL import Image

from vjepa_exp.data.findings import Progress
from vjepa_exp.data.guard import Each, Lost, in_turn
from vjepa_exp.data.index import index
from vjepa_exp.data.manifest import FILE_COLUMNS, Manifest, read_manifest, write_manifest
from vjepa_exp.data.prepare import Prepared, prepare, prepared_name
from vjepa_exp.data.prepare_folder import Owner
from vjepa_exp.data.probe import probe
from vjepa_exp.data.recheck import recheck
from vjepa_exp.data.reencode import Settings
from vjepa_exp.data.remote import Remote
from vjepa_exp.data.speed import speeds
from vjepa_exp.spec.data import ClipSpec
from vjepa_exp.spec.errors import UserError

R = TypeVar("R")
FAST = Settings(preset="ultrafast")


class Watched:
    """`in_turn`, remembering what was asked for and stopping as a killed process does."""

    def __init__(self, stop_after: int = 10**9) -> None:
        self.asked: list[str] = []
        self._left = stop_after

    def __call__(self, work: Callable[[str], R], items: Sequence[str], /) -> Iterator[tuple[int, R | Lost]]:
        for number, item in enumerate(items):
            if not self._left:
                raise KeyboardInterrupt
            self._left -= 1
            self.asked.append(Path(item).name)
            yield from ((number, result) for _, result in in_turn(work, [item]))


def run(
    source: Manifest,
    folder: Path,
    settings: Settings = FAST,
    each: Each = in_turn,
    min_psnr: float = 20,
    progress: Progress | None = None,
    owner: Owner | None = None,
) -> Prepared:
    owner = owner or Owner("new", "x", folder.parent / "new.parquet")
    made_from = {"source": "x"}
    return prepare(source, folder, settings, made_from, owner=owner, min_psnr=min_psnr, each=each, progress=progress)


@pytest.fixture
def source(video_folder: Path, tmp_path: Path) -> Manifest:
    shutil.copytree(video_folder, tmp_path / "videos")
    return index(tmp_path / "videos")


def test_every_row_of_the_source_is_there_with_its_label(source: Manifest, tmp_path: Path) -> None:
    prepared = run(source, tmp_path / "new")
    manifest = prepared.manifest
    for name in ("path", "label", "split", "frames", "fps", "width", "height", "decodable"):
        assert manifest.column(name).tolist() == source.column(name).tolist(), name
    assert manifest.classes == source.classes
    assert set(manifest.decodable().column("codec")) == {"h264"}
    assert set(manifest.decodable().column("readers")) == {"pyav,torchcodec,decord"}
    assert (prepared.psnr[manifest.column("decodable")] > 30).all()
    reasons = dict(manifest.unreadable())
    assert set(reasons) == {str(tmp_path / "new" / split / "up" / "broken.mp4") for split in ("train", "val")}
    assert all(reason.startswith("source: open: Invalid data") for reason in reasons.values())
    assert not prepared.failed()
    assert recheck(manifest) == []
    assert not list((tmp_path / "new" / ".parts").iterdir())


def test_the_manifest_tells_where_the_set_comes_from(source: Manifest, tmp_path: Path) -> None:
    write_manifest(run(source, tmp_path / "new").manifest, tmp_path / "m.parquet")
    assert read_manifest(tmp_path / "m.parquet").decodable().subset("val").provenance == {"source": "x"}
    assert source.provenance == {}


def test_a_stopped_call_goes_on_and_a_finished_one_has_nothing_to_do(source: Manifest, tmp_path: Path) -> None:
    folder, seen = tmp_path / "new", list[tuple[int, int]]()
    with pytest.raises(KeyboardInterrupt):
        run(source, folder, each=Watched(stop_after=4))
    (folder / ".parts" / "left.mp4").write_bytes(b"half")
    again = Watched()
    first = run(source, folder, each=again, progress=lambda done, total: seen.append((done, total)))
    assert (len(again.asked), seen[0], seen[-1]) == (6, (4, 10), (10, 10))
    assert not list((folder / ".parts").iterdir())
    once_more = Watched()
    second = run(source, folder, each=once_more)
    assert once_more.asked == []
    assert second.manifest.table.equals(first.manifest.table)


KILLED = """
import sys
from functools import partial
from pathlib import Path
from vjepa_exp.data.guard import each_locally
from vjepa_exp.data.manifest import read_manifest
from vjepa_exp.data.prepare import prepare
from vjepa_exp.data.prepare_folder import Owner
from vjepa_exp.data.reencode import Settings
if __name__ == "__main__":
    each = partial(each_locally, processes=2, deadline_s=60)
    source, folder, settings = read_manifest(Path(sys.argv[1])), Path(sys.argv[2]), Settings(preset="ultrafast")
    owner = Owner("new", "x", folder.parent / "new.parquet")
    prepare(source, folder, settings, {"source": "x"}, owner=owner, min_psnr=20, each=each)
"""


def test_a_call_killed_for_real_leaves_only_whole_files(
    make_video: Callable[..., Path], source: Manifest, tmp_path: Path
) -> None:
    for i in range(40):
        make_video(source.root / "train/down" / f"more{i}.mp4", frames=60)
    source = index(source.root)
    script, folder = tmp_path / "killed.py", tmp_path / "new"
    script.write_text(KILLED)
    write_manifest(source, tmp_path / "m.parquet")
    process = subprocess.Popen([sys.executable, script, tmp_path / "m.parquet", folder])
    notes, deadline = folder / "prepare.jsonl", time.monotonic() + 200
    while not notes.exists() or notes.read_bytes().count(b"\n") < 5:
        assert time.monotonic() < deadline, "nothing was prepared"
        assert process.poll() is None, "was not killed in time"
        time.sleep(0.005)
    process.kill()
    process.wait()
    known = notes.read_bytes().count(b"\n")
    whole = [path for path in folder.rglob("*.mp4") if path.parent.name != ".parts"]
    assert all(probe(path).decodable for path in whole)
    watched = Watched()
    manifest = run(source, folder, each=watched).manifest
    assert len(watched.asked) == 50 - known
    unbroken = run(source, tmp_path / "unbroken").manifest
    assert manifest.table.drop("bytes").equals(unbroken.table.drop("bytes"))


def test_two_at_once_are_refused(source: Manifest, tmp_path: Path) -> None:
    def nested(work: Callable[[str], R], items: Sequence[str], /) -> Iterator[tuple[int, R | Lost]]:
        with pytest.raises(UserError, match="in use"):
            run(source, tmp_path / "new")
        return in_turn(work, items)

    assert run(source, tmp_path / "new", each=nested).manifest.column("decodable").sum() == 10


def test_only_what_is_missing_or_stale_is_made_again(source: Manifest, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    run(source, folder)
    (folder / "train/up/0.mp4").unlink()
    (folder / "train/up/1.mp4").write_bytes(b"spoilt")
    os.utime(source.root / "train/up/2.mp4", ns=(0, 0))
    watched = Watched()
    assert run(source, folder, each=watched).manifest.column("decodable").sum() == 10
    assert sorted(watched.asked) == ["0.mp4", "1.mp4", "2.mp4"]
    other = Watched()
    run(source, folder, dataclasses.replace(FAST, gop=8), each=other)
    assert len(other.asked) == 10


def test_what_is_not_good_enough_is_listed_and_tried_again(source: Manifest, tmp_path: Path) -> None:
    prepared = run(source, tmp_path / "new", min_psnr=120)
    assert len(prepared.failed()) == 10
    assert all("less than 120" in reason for _, reason in prepared.failed())
    assert not list((tmp_path / "new").rglob("*.mp4"))
    watched = Watched()
    assert not run(source, tmp_path / "new", each=watched).failed()
    assert len(watched.asked) == 10


def test_what_was_good_enough_for_an_earlier_call_may_not_be_for_this_one(
    make_video: Callable[..., Path], tmp_path: Path
) -> None:
    make_video(tmp_path / "videos/a.mp4")
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "videos/b.png")
    with av.open(str(tmp_path / "videos/c.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        container.mux(stream.encode())
    source, folder = index(tmp_path / "videos"), tmp_path / "new"
    coarse, again = dataclasses.replace(FAST, crf=40), Watched()
    psnr = run(source, folder, coarse, min_psnr=1).psnr.tolist()
    limit = (psnr[0] + psnr[2]) / 2
    assert psnr[2] + 2 < limit < psnr[0], "noise costs more than grey"
    strict = run(source, folder, coarse, min_psnr=limit, each=again)
    told = f"not prepared: {psnr[2]:.1f} dB in its worst frame, less than {limit:g}"
    assert strict.failed() == [(str(folder / "c.mp4"), told)]
    assert strict.manifest.column("decodable").tolist() == [True, True, False]
    most = run(source, folder, coarse, min_psnr=120, each=again).manifest
    assert most.column("decodable").tolist() == [False, True, False], "pictures are copied"
    assert run(source, folder, coarse, min_psnr=1, each=again).manifest.column("decodable").all()
    assert again.asked == [], "encoded again they would be the same"


def test_a_file_that_kills_its_process_is_listed(source: Manifest, tmp_path: Path) -> None:
    def lose(work: Callable[[str], R], items: Sequence[str], /) -> Iterator[tuple[int, R | Lost]]:
        return ((i, Lost("its process died by SIGSEGV") if i == 2 else result) for i, result in in_turn(work, items))

    prepared = run(source, tmp_path / "new", each=lose)
    assert [reason for _, reason in prepared.failed()] == ["not prepared: its process died by SIGSEGV"]
    assert prepared.manifest.column("decodable").sum() == 9


def test_files_listed_twice_images_and_other_containers(make_video: Callable[..., Path], tmp_path: Path) -> None:
    make_video(tmp_path / "a.avi", codec="mpeg4")
    Image.new("RGB", (400, 300), "red").save(tmp_path / "b.png")
    (tmp_path / "list.csv").write_text("path,label,split\na.avi,x,train\nb.png,y,train\na.avi,y,val\n")
    source = index(tmp_path / "list.csv")
    watched = Watched()
    manifest = run(source, tmp_path / "new", each=watched).manifest
    assert watched.asked == ["a.avi", "b.png"]
    assert manifest.column("path").tolist() == ["a.avi.mp4", "b.png", "a.avi.mp4"]
    assert manifest.column("readers").tolist() == ["pyav,torchcodec,decord", "image", "pyav,torchcodec,decord"]
    assert manifest.column("label").tolist() == [0, 1, 1]
    assert (tmp_path / "new" / "b.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    by_reader = {speed.reader: speed for speed in speeds(source, manifest, ClipSpec())}
    assert by_reader["decord"].before is None, "decord is not exact on AVI"
    assert by_reader["decord"].after
    assert by_reader["pyav"].before


def test_two_files_never_take_one_name(make_video: Callable[..., Path], tmp_path: Path) -> None:
    make_video(tmp_path / "videos/a.avi", codec="mpeg4")
    make_video(tmp_path / "videos/a.avi.mp4")
    with pytest.raises(UserError, match=r"a.avi and a.avi.mp4 would both become a.avi.mp4"):
        run(index(tmp_path / "videos"), tmp_path / "new")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_no_prepared_file_is_written_over_an_original(make_video: Callable[..., Path], tmp_path: Path) -> None:
    root = tmp_path / "set"
    for name in ("a.mp4", "in/a.mp4", "set/b.mp4", "b.mp4"):
        make_video(root / name, frames=4)
    (tmp_path / "link").symlink_to(root)
    (tmp_path / "around/in").mkdir(parents=True)
    (tmp_path / "around/in/a.mp4").symlink_to(root / "a.mp4")
    (root / "linked").mkdir()
    (root / "linked/in").symlink_to(root / "in")
    source, before = index(root), contents(tmp_path)
    for folder, which in (
        (root, "a.mp4"),
        (root / "in", "a.mp4"),
        (tmp_path, "b.mp4"),
        (tmp_path / "link", "a.mp4"),
        (root / "linked", "in/a.mp4"),
    ):
        with pytest.raises(UserError, match=rf"would be written over the original .*/set/(in/|set/)?{which[-5:]}"):
            run(source, folder)
    with pytest.raises(UserError, match=r"around holds in/a.mp4 already, and nothing says that it is of this set"):
        run(source, tmp_path / "around")
    assert contents(tmp_path) == before
    assert run(source, root / "prepared").manifest.column("decodable").all(), "beside the originals is free"
    assert run(source, root / "prepared").manifest.column("decodable").all()


def test_two_sets_never_share_a_folder(source: Manifest, make_video: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "new"
    make_video(tmp_path / "other/train/up/0.mp4", frames=4)
    other = index(tmp_path / "other")
    run(source, folder, min_psnr=1)
    before = contents(folder)
    mine = Owner("new", "x", tmp_path / "new.parquet")
    for stranger in (
        dataclasses.replace(mine, source="y"),
        dataclasses.replace(mine, name="new_too", manifest=tmp_path / "new_too.parquet"),
        dataclasses.replace(mine, manifest=tmp_path / "elsewhere" / "new.parquet"),
    ):
        told = r"new is the folder of the set 'new', prepared from 'x' with .*'gop': 16.*, whose manifest is .*/new"
        for there, settings in ((other, FAST), (source, dataclasses.replace(FAST, gop=8))):
            with pytest.raises(UserError, match=told):
                run(there, folder, settings, owner=stranger)
    again = Watched()
    write_manifest(run(source, folder, each=again, owner=mine).manifest, mine.manifest)
    assert again.asked == []
    with pytest.raises(UserError, match="is the folder of the set 'new'"):  # which others use by now
        run(source, folder, dataclasses.replace(FAST, gop=8))
    assert contents(folder) == before
    assert run(source, folder, each=again).manifest.column("decodable").sum() == 10
    assert again.asked == []


def test_a_folder_and_its_manifest_may_move_together(source: Manifest, tmp_path: Path) -> None:
    run(source, tmp_path / "here" / "new")
    (tmp_path / "here").rename(tmp_path / "there")
    again = Watched()
    run(source, tmp_path / "there" / "new", each=again)
    assert again.asked == []


def test_names_stay_below_the_folder() -> None:
    root = Path("/data/set")
    for path, name in [
        ("x/a.mp4", "x/a.mp4"),
        ("x/a.MKV", "x/a.MKV.mp4"),
        ("/data/set/y/b.webm", "y/b.webm.mp4"),
        ("/elsewhere/c.mp4", "elsewhere/c.mp4"),
        ("../d.mp4", "data/d.mp4"),
    ]:
        assert prepared_name(path, root) == name


def test_a_full_disk_stops_the_work_and_what_is_done_is_kept(
    source: Manifest, small_disk: Callable[[str], Path]
) -> None:
    folder = small_disk("24k") / "new"
    with pytest.raises(UserError, match="No space left on device"):
        run(source, folder)
    done = {path.name for path in folder.rglob("*.mp4")}
    small_disk("4m")
    assert run(source, folder).manifest.column("decodable").sum() == 10
    assert done


def test_a_set_that_lies_elsewhere_is_refused(tmp_path: Path) -> None:
    rows = {name: [] for name in ("path", "label", "split", *FILE_COLUMNS.names)}
    source = Manifest.from_columns(rows, Remote("s3://bucket/videos"), ())
    with pytest.raises(UserError, match="lies in s3://bucket/videos: copy it"):
        run(source, tmp_path / "made")
