"""Data sets on servers: the same clips as on a disk, and a network that fails is no bad video."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vjepa_exp.cli import main
from vjepa_exp.data import remote
from vjepa_exp.data.cache import Cache, use_cache
from vjepa_exp.data.guard import each_locally
from vjepa_exp.data.index import index, index_listing
from vjepa_exp.data.listing import list_files
from vjepa_exp.data.manifest import Manifest, read_manifest, write_manifest
from vjepa_exp.data.recheck import recheck
from vjepa_exp.data.remote import Remote, place
from vjepa_exp.data.source import EvalSource, PretrainSource
from vjepa_exp.spec.augment import NoAugment
from vjepa_exp.spec.data import ClipSpec, DataSpec, MixtureEntry
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.execution import ReaderChoice

CLIP = ClipSpec(num_frames=4, frame_step=2, resolution=16)
GUARDED = partial(each_locally, processes=2, deadline_s=120)


@pytest.fixture(autouse=True)
def _patience_and_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(remote, "PAUSES_S", (0.01, 0.01, 0.01))
    use_cache(Cache(tmp_path / "cache"))
    yield
    use_cache(Cache())


@pytest.fixture(scope="session")
def named_videos(video_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of videos with names that a URI has to quote."""
    root = tmp_path_factory.mktemp("named") / "videos"
    shutil.copytree(video_folder, root)
    for split in ("train", "val"):
        (root / split / "up").rename(root / split / "up & é")
        (root / split / "down" / "0.mp4").rename(root / split / "down" / "50 % #1?.mp4")
    (root / "train" / "list.txt").write_text("no video")
    return root


def pretrain(manifest: Manifest, reader: ReaderChoice = "auto") -> PretrainSource:
    data = DataSpec(mixture=(MixtureEntry(dataset="a"),), clip=CLIP)
    return PretrainSource([(manifest, None)], data, 1, reader)


def evaluation(manifest: Manifest) -> EvalSource:
    return EvalSource(manifest, "val", clip=CLIP, clips=1, views=1, augment=NoAugment(), seed=1, shuffle=False)


def require_same(there: Manifest, here: Manifest) -> None:
    """The same manifest but for its root, the same order and bit for bit the same clips."""
    assert there.table.equals(here.table)
    assert there.classes == here.classes
    for source in (pretrain, evaluation):
        one, other = source(there), source(here)
        assert one.fingerprint == other.fingerprint
        positions = np.arange(12)
        mine, theirs = one.load(positions), other.load(positions)
        assert mine["clips"].any()
        for name in set(mine) - {"path", "skipped"}:
            assert np.array_equal(mine[name], theirs[name]), name


@pytest.mark.parametrize("server", ["s3_bucket", "gs_bucket", "web"])
def test_a_set_on_a_server_is_the_set_on_the_disk(
    server: str, request: pytest.FixtureRequest, named_videos: Path, tmp_path: Path
) -> None:
    uri = request.getfixturevalue(server).put(named_videos, "a set/of videos")
    there = index(place(uri + "/"))
    assert there.root == Remote(uri)
    write_manifest(there, tmp_path / "there.parquet")
    require_same(read_manifest(tmp_path / "there.parquet"), index(named_videos))
    assert there.entry(0).path.startswith(uri)


def test_a_class_called_train_is_not_taken_for_a_split(web: Any) -> None:
    for name in ("set/train/1.mp4", "set/bus/2.mp4", "set/notes/read.txt"):
        (web.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (web.folder / name).write_bytes(b"x")
    told = line(lambda: list_files(place(f"{web.url}/set")))
    assert told.startswith(f"{web.url}/set holds train beside other folders with videos or images: bus; if the former")
    (web.folder / "set/bus/2.mp4").unlink()
    assert list_files(place(f"{web.url}/set")).table["split"].to_pylist() == ["train"]


def test_processes_that_are_guarded_index_and_check_a_bucket(bucket: Any, video_folder: Path, tmp_path: Path) -> None:
    uri = bucket.put(video_folder, "set")
    manifest = index_listing(list_files(place(uri)), each=GUARDED, kept=tmp_path / "kept.jsonl")
    assert manifest.table.equals(index(video_folder).table)
    bucket.system.put_file(str(video_folder / "train/up/0.mp4"), f"{uri}/train/up/1.mp4")
    bucket.system.rm_file(f"{uri}/val/up/0.mp4")
    changes = {change.path: change.what for change in recheck(manifest, each=GUARDED)}
    assert set(changes) == {"train/up/1.mp4", "val/up/0.mp4"}
    assert "frames 16 -> 12" in changes["train/up/1.mp4"]
    assert changes["val/up/0.mp4"] == "cannot be read any more: No such file or directory"


def test_a_list_here_may_name_files_there(bucket: Any, web: Any, video_folder: Path, tmp_path: Path) -> None:
    uri = bucket.put(video_folder, "set")
    shutil.copy(video_folder / "val/up/0.mp4", web.folder / "b.mp4")
    shutil.copy(video_folder / "val/up/1.mp4", tmp_path / "c.mp4")
    (tmp_path / "list.csv").write_text(f"{uri}/train/up/0.mp4 0\n{web.url}/b.mp4 1\nc.mp4 2\n")
    mixed = index(tmp_path / "list.csv")
    assert mixed.column("decodable").all()
    assert [mixed.entry(i).path for i in range(3)] == [
        f"{uri}/train/up/0.mp4",
        f"{web.url}/b.mp4",
        str(tmp_path / "c.mp4"),
    ]
    (tmp_path / "short.csv").write_text("train/up/0.mp4 0\nval/down/1.mp4 1\n")
    below = index(tmp_path / "short.csv", root=place(uri))
    assert below.entry(1).path == f"{uri}/val/down/1.mp4"
    assert below.column("decodable").all()


def test_a_connection_that_breaks_is_tried_again(web: Any, video_folder: Path) -> None:
    shutil.copytree(video_folder / "train", web.folder / "set")
    manifest = index(video_folder / "train")
    web.drops = {"/set/up/0.mp4": 2}
    there = index(place(f"{web.url}/set"))
    assert there.table.equals(manifest.table)
    assert web.count("/set/up/0.mp4") == 3


def test_a_network_that_stays_broken_stops_the_work_and_blames_no_video(
    web: Any, video_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(video_folder / "train", web.folder / "set")
    manifest = index(place(f"{web.url}/set"))
    use_cache(Cache(tmp_path / "empty"))
    web.drops = dict.fromkeys((f"/set/{path}" for path in manifest.column("path")), 1000)
    with pytest.raises(UserError, match=r"/set/.*\.mp4 cannot be read, 4 times in a row: \w+"):
        pretrain(manifest).load(np.arange(6))
    with pytest.raises(UserError, match="4 times in a row"):
        index_listing(list_files(place(f"{web.url}/set")), each=GUARDED)
    left = [path.name for path in (tmp_path / "empty").rglob("*") if path.is_file()]
    assert left == ["lock"]


def test_a_server_that_is_away_has_no_missing_files(video_folder: Path) -> None:
    """fsspec's HTTP raises FileNotFoundError where nobody answers."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        root = Remote(f"http://127.0.0.1:{taken.getsockname()[1]}")
        here = index(video_folder)
        with pytest.raises(UserError, match=r"cannot be read, 4 times in a row: ClientConnectorError: "):
            pretrain(Manifest(here.table, root, here.classes)).load(np.arange(2))


def test_a_file_that_a_server_does_not_have_is_a_bad_file(web: Any, bucket: Any, video_folder: Path) -> None:
    shutil.copytree(video_folder, web.folder / "set")
    uri = bucket.put(video_folder, "set")
    here = index(video_folder)
    for root in (f"{web.url}/set", uri):
        use_cache(Cache(web.folder / root[:4]))
        (web.folder / "set/val/up/0.mp4").unlink(missing_ok=True)
        bucket.system.rm_file(f"{uri}/val/up/0.mp4") if root == uri else None
        batch = evaluation(Manifest(here.table, place(root), here.classes)).load(np.arange(5))
        errors = dict(zip(batch["path"].tolist(), batch["error"].tolist(), strict=True))
        assert errors[f"{root}/val/up/0.mp4"] == "open: No such file or directory"
        assert sum(bool(error) for error in errors.values()) == 2  # this one, and the broken one


@pytest.mark.parametrize("reader", ["auto", "decord"])
def test_a_bad_file_on_a_server_is_known_by_its_uri(web: Any, video_folder: Path, reader: ReaderChoice) -> None:
    """And not by its copy, whose name nobody knows: by what is counted, listed, and said."""
    shutil.copytree(video_folder / "train", web.folder / "set")
    manifest = index(place(f"{web.url}/set"))
    bad = {f"{web.url}/set/{label}/0.mp4" for label in ("up", "down")}
    for uri in bad:
        (web.folder / uri.removeprefix(f"{web.url}/")).write_bytes(b"damaged")
    use_cache(Cache(web.folder / "copies"))
    texts = pretrain(manifest, reader).load(np.arange(12))["skipped"].tolist()
    skipped = [one for text in texts if text for one in json.loads(text)]
    assert {one["path"] for one in skipped} == bad
    assert not any("copies" in one["reason"] for one in skipped)


@pytest.mark.parametrize(("status", "times"), [(403, 1), (401, 1), (503, 4), (429, 4)])
def test_only_what_may_pass_is_tried_again(web: Any, make_video: Any, status: int, times: int) -> None:
    make_video(web.folder / "a.mp4")
    web.refused = {"/a.mp4": status}
    with pytest.raises(UserError, match=f"a.mp4 cannot be read.*: ClientResponseError: {status}"):
        remote.stat(f"{web.url}/a.mp4")
    assert web.asked.count(("HEAD", "/a.mp4")) == times


def line(action: Callable[[], object]) -> str:
    """What a user is told."""
    with pytest.raises(UserError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_mistakes_are_one_line(bucket: Any, monkeypatch: pytest.MonkeyPatch, video_folder: Path) -> None:
    here, scheme = index(video_folder), bucket.uri.partition(":")[0]
    nowhere = Manifest(here.table, Remote(f"{scheme}://vidoes/set"), here.classes)
    bad_bucket = f"bucket {scheme}://vidoes does not exist, or this machine may not see it"
    assert line(lambda: index(nowhere.root)) == bad_bucket
    assert line(lambda: pretrain(nowhere).load(np.arange(2))) == bad_bucket
    assert line(lambda: index(place(f"{bucket.uri}/nothing"))) == f"{bucket.uri}/nothing lists no video or image"
    assert line(lambda: place("ftp://x/y")).startswith("ftp://x/y: only local paths, s3://, gs://")


@pytest.mark.parametrize(
    ("scheme", "library"),
    [("s3", "s3fs"), ("gs", "gcsfs"), ("gcs", "gcsfs"), ("http", "aiohttp"), ("https", "aiohttp")],
)
def test_a_library_that_is_missing_is_one_line(scheme: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    remote._filesystem.cache_clear()
    monkeypatch.delitem(import_module("fsspec.registry")._registry, scheme, raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    needed = (
        f"{scheme}:// needs {library}, which is not installed here: pip install 'vjepa-exp[remote]', or {library} alone"
    )
    assert line(lambda: remote.require(Remote(f"{scheme}://x/y"))) == needed


def test_credentials_that_are_missing_are_one_line(s3_bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_") and "METADATA" not in name]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_bucket.environment["AWS_ENDPOINT_URL"])
    told = line(lambda: index(Remote(f"{s3_bucket.uri}/set")))
    assert told == (
        f"{s3_bucket.uri}/set cannot be read: NoCredentialsError: Unable to locate credentials (credentials are looked "
        "for in: AWS_PROFILE, AWS_ACCESS_KEY_ID, the role of the instance)"
    )


ANONYMOUS = "Anonymous caller does not have storage.objects.list access to the Google Cloud Storage bucket."
GOOGLE = (
    " (credentials are looked for in: GOOGLE_APPLICATION_CREDENTIALS, gcloud auth application-default login, "
    "the account of the instance)"
)


@pytest.mark.parametrize(
    ("status", "message", "told"),
    [
        (401, ANONYMOUS, f"HttpError: {ANONYMOUS}, 401{GOOGLE}"),
        (403, "someone lacks it.", f"OSError: Forbidden: b/BUCKET/o someone lacks it.{GOOGLE}"),
        (400, "an invalid argument", "ValueError: Bad Request: b/BUCKET/o an invalid argument"),
    ],
    ids=["anonymous", "forbidden", "bad"],
)
def test_what_google_refuses_is_one_line_at_once(
    gs_bucket: Any, status: int, message: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    gs_bucket.refused.update(dict.fromkeys(("list", "get", "describe"), (status, message)))
    folder, bucket = f"{gs_bucket.uri}/set", gs_bucket.uri.removeprefix("gs://")
    assert line(lambda: index(Remote(folder))) == f"{folder} cannot be read: {told.replace('BUCKET', bucket)}"
    assert line(lambda: remote.stat(f"{folder}/a.mp4")).startswith(f"{folder}/a.mp4 cannot be read: ")
    assert not caplog.records


def test_a_payer_that_google_asks_for_is_named(gs_bucket: Any) -> None:
    gs_bucket.refused["list"] = 400, "Bucket is a requester pays bucket but no user project provided."
    assert line(lambda: index(Remote(f"{gs_bucket.uri}/set"))).endswith(
        " (FSSPEC_GS_REQUESTER_PAYS names the project that pays)"
    )


@pytest.mark.parametrize("status", [401, 403])
def test_who_may_only_read_the_files_need_not_see_the_bucket(gs_bucket: Any, video_folder: Path, status: int) -> None:
    """The usual rights of a reader, and those of everybody in a public bucket."""
    uri = gs_bucket.put(video_folder, "set")
    gs_bucket.refused["describe"] = status, ANONYMOUS
    here = index(video_folder)
    require_same(index(place(uri)), here)
    gs_bucket.system.rm_file(f"{uri}/val/up/0.mp4")
    with pytest.raises(FileNotFoundError):
        remote.stat(f"{uri}/val/up/0.mp4")


def test_google_credentials_that_are_asked_for_and_missing_are_one_line(
    gs_bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(import_module("fsspec.config").conf, "gs", {"token": "google_default"})
    told = line(lambda: index(Remote(f"{gs_bucket.uri}/set")))
    assert told.startswith("gs:// cannot be read: DefaultCredentialsError: Your default credentials were not found.")
    assert told.endswith(GOOGLE)


def test_the_command_indexes_and_checks_a_bucket(
    bucket: Any, video_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    use_cache(Cache())
    uri, registry = bucket.put(video_folder, "set"), tmp_path / "datasets.yaml"
    for arguments in (["index", uri, "--out", "there"], ["check", "there"]):
        with pytest.raises(SystemExit) as done:
            main(["data", *arguments, "--datasets", str(registry)])
        assert done.value.code == 0
    printed = capsys.readouterr().out
    assert f"cannot be read: {uri}/train/up/broken.mp4: open: Invalid data found when processing input" in printed
    assert "12 of 12 files are as they were indexed" in printed
    assert read_manifest(tmp_path / "manifests" / "there.parquet").root == Remote(uri)
