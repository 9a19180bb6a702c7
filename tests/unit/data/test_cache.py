"""Copies of remote files: whole, bounded, and safe from other processes."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.http import HTTPFileSystem

from vjepa_exp.data import remote
from vjepa_exp.data.cache import Cache, fetching, local, use_cache
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.execution import ExecutionSpec

SIZE = 20_000
SPAWN = multiprocessing.get_context("spawn")


def serve(web: Any, count: int) -> list[str]:
    """Files 0.mp4, 1.mp4, ... of SIZE bytes; returns their URIs."""
    for number in range(count):
        (web.folder / f"{number}.mp4").write_bytes(content(number))
    return [f"{web.url}/{number}.mp4" for number in range(count)]


def content(number: int) -> bytes:
    return random.Random(number).randbytes(SIZE)


def copies(cache: Cache) -> list[Path]:
    return [path for path in cache.here.glob("*/*") if path.suffix != ".part"]


def filled(cache: Cache) -> int:
    total = 0
    for path in cache.here.glob("*/*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # as it is at work
            continue
    return total


def read(cache: Cache, uri: str) -> bytes:
    copy = cache.hold(uri)
    try:
        return Path(copy.path).read_bytes()
    finally:
        copy.close()


def test_a_file_is_fetched_once_and_keeps_its_suffix(web: Any, tmp_path: Path) -> None:
    cache, (uri,) = Cache(tmp_path / "cache"), serve(web, 1)
    assert read(cache, uri) == read(cache, uri) == content(0)
    assert web.count("/0.mp4") == 1
    assert [path.suffix for path in copies(cache)] == [".mp4"]


def test_what_was_not_used_for_longest_goes_first(web: Any, tmp_path: Path) -> None:
    cache, uris = Cache(tmp_path / "cache", limit_bytes=3 * SIZE), serve(web, 4)
    for number in (0, 1, 2, 0, 3, 0, 2):
        assert read(cache, uris[number]) == content(number)
        assert filled(cache) <= cache.limit_bytes
        time.sleep(0.02)  # the clock of file systems is coarse
    assert [web.count(f"/{number}.mp4") for number in range(4)] == [1, 1, 2, 1]


def test_a_copy_that_is_held_stays(web: Any, tmp_path: Path) -> None:
    cache, uris = Cache(tmp_path / "cache", limit_bytes=2 * SIZE), serve(web, 6)
    held = cache.hold(uris[0])
    for number in range(1, 6):
        assert read(cache, uris[number]) == content(number)
        assert Path(held.path).read_bytes() == content(0)
    assert filled(cache) <= cache.limit_bytes
    held.close()
    read(cache, uris[1]), read(cache, uris[2])
    assert not Path(held.path).exists()


def test_a_bound_smaller_than_a_file_still_lets_it_be_read(web: Any, tmp_path: Path) -> None:
    cache, uris = Cache(tmp_path / "cache", limit_bytes=10), serve(web, 3)
    assert [read(cache, uri) for uri in uris] == [content(number) for number in range(3)]
    assert len(copies(cache)) == 1


def test_a_file_that_changed_is_seen_when_it_is_asked_for(web: Any, tmp_path: Path) -> None:
    cache, (uri,) = Cache(tmp_path / "cache"), serve(web, 1)
    read(cache, uri)
    (web.folder / "0.mp4").write_bytes(content(7))
    os.utime(web.folder / "0.mp4", (1, 1))  # web servers count in seconds
    assert read(cache, uri) == content(0)
    cache.hold(uri, fresh=True).close()
    assert read(cache, uri) == content(7)
    assert len(copies(cache)) == 1
    cache.hold(uri, fresh=True).close()
    assert web.count("/0.mp4") == 2


def test_files_of_a_batch_come_at_the_same_time(web: Any, tmp_path: Path) -> None:
    use_cache(Cache(tmp_path / "cache", limit_bytes=SIZE))
    uris, web.pause_s = serve(web, 8), 0.5
    begun = time.monotonic()
    with fetching([*uris, uris[0], str(web.folder / "0.mp4")]):
        for number, uri in reversed(list(enumerate(uris))):
            with local(uri) as path:
                assert Path(path).read_bytes() == content(number)
    assert time.monotonic() - begun < 8 * web.pause_s
    assert [web.count(f"/{number}.mp4") for number in range(8)] == [1] * 8
    with local(str(tmp_path)) as path:
        assert path == str(tmp_path)


def _read_many(cache: Cache, uris: Sequence[str], seed: int) -> None:
    """A decode process: opens each copy anew while it holds it, as readers do."""
    order = random.Random(seed)
    for _ in range(60):
        number = order.randrange(len(uris))
        copy = cache.hold(uris[number])
        for _ in range(3):
            assert Path(copy.path).read_bytes() == content(number)
            time.sleep(0.001)
        copy.close()


def test_processes_under_a_small_bound_read_whole_files(web: Any, tmp_path: Path) -> None:
    cache, uris = Cache(tmp_path / "cache", limit_bytes=5 * SIZE), serve(web, 12)
    processes = [SPAWN.Process(target=_read_many, args=(cache, uris, seed)) for seed in range(4)]
    for process in processes:
        process.start()
    most = 0
    while any(process.is_alive() for process in processes):
        most = max(most, filled(cache))
        time.sleep(0.005)
    assert [process.exitcode for process in processes] == [0] * 4
    assert SIZE < most <= cache.limit_bytes + 4 * SIZE  # each process holds one
    assert sum(web.count(f"/{number}.mp4") for number in range(12)) > 12  # so there was something to remove


def _read_one(cache: Cache, uri: str) -> None:
    assert read(cache, uri) == content(0)


def test_processes_that_want_one_file_fetch_it_once(web: Any, tmp_path: Path) -> None:
    cache, (uri,) = Cache(tmp_path / "cache"), serve(web, 1)
    web.pause_s = 3.0
    processes = [SPAWN.Process(target=_read_one, args=(cache, uri)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 3
    assert web.count("/0.mp4") == 1


def test_what_a_killed_process_left_is_no_copy(web: Any, tmp_path: Path) -> None:
    cache, uris = Cache(tmp_path / "cache", limit_bytes=SIZE), serve(web, 2)
    web.pause_s = 60.0
    process = SPAWN.Process(target=_read_one, args=(cache, uris[0]))
    process.start()
    while not any(path.stat().st_size for path in cache.here.glob("*/*.part")):
        assert process.is_alive()
        time.sleep(0.01)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert copies(cache) == []
    web.pause_s = 0.0
    assert read(cache, uris[1]) == content(1)  # makes room: the part is removed
    assert list(cache.here.glob("*/*.part")) == []
    assert read(cache, uris[0]) == content(0)


def test_a_short_file_is_never_a_copy(web: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that ends early without saying how much there would have been more."""
    monkeypatch.setattr(remote, "PAUSES_S", (0.01,))
    cache, (uri,) = Cache(tmp_path / "cache"), serve(web, 1)
    system = remote._filesystem("http")

    def half(path: str, to: str) -> None:
        Path(to).write_bytes(content(0)[: SIZE // 2])

    with monkeypatch.context() as patch:
        patch.setattr(system, "get_file", half)
        with pytest.raises(UserError, match=f"{SIZE // 2} of {SIZE} bytes arrived"):
            cache.hold(uri)
    assert filled(cache) == 0
    assert read(cache, uri) == content(0)


def test_a_full_disk_is_one_line(web: Any, small_disk: Any) -> None:
    cache, (uri,) = Cache(small_disk("16k") / "cache"), serve(web, 1)
    with pytest.raises(UserError, match=f"no copy of {uri} can be kept here: No space left on device"):
        cache.hold(uri)


def test_the_settings_of_a_run_make_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Cache.of(ExecutionSpec()).here == tmp_path / "vjepa-exp"
    chosen = Cache.of(ExecutionSpec(cache_dir="/scratch/copies", cache_gib=0.5))
    assert (chosen.here, chosen.limit_bytes) == (Path("/scratch/copies/vjepa-exp"), 2**29)


def test_what_is_not_a_copy_is_neither_counted_nor_removed(web: Any, tmp_path: Path) -> None:
    """Also where the folder of copies is called as another one of the user's, a checkout of this project, say."""
    cache, uris = Cache(tmp_path / "mine", limit_bytes=2 * SIZE), serve(web, 6)
    names = [
        "notes/a.part",
        "abc/b.mp4.7.part",
        "abc/c.bin",
        "abc/d/e.bin",
        f"notes/{'0' * 32}-{'0' * 16}.mp4",
        f"abc/{'0' * 32}-{'0' * 16}.mp4/f.bin",  # a folder by the name of a copy
        f"abc/{'0' * 32}-{'0' * 16}.mp4.5.part/g.bin",
    ]
    others = [folder / name for folder in (tmp_path / "mine", cache.here) for name in [*names, "lock.bin"]]
    others.append(tmp_path / "mine" / "lock")
    for other in others:
        other.parent.mkdir(parents=True, exist_ok=True)
        other.write_bytes(b"mine" * SIZE)
        os.utime(other, (1, 1))
    for turn in range(2):
        for number, uri in enumerate(uris):
            assert read(cache, uri) == content(number)
        assert web.count("/5.mp4") == turn + 1, "something had to go"
    assert [read(cache, uris[number]) for number in (4, 5)] == [content(4), content(5)]
    assert web.count("/5.mp4") == 2, "what is in use lately is kept: the others' files do not count"
    assert all(other.read_bytes() == b"mine" * SIZE for other in others)


def test_names_that_look_like_a_part_are_copies(web: Any, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", limit_bytes=SIZE)
    for number, name in enumerate(["a.part", "b.12", "c"]):
        (web.folder / name).write_bytes(content(number))
    held = cache.hold(f"{web.url}/a.part")
    for number, name in enumerate(["a.part", "b.12", "c"]):
        assert read(cache, f"{web.url}/{name}") == content(number)
    assert Path(held.path).read_bytes() == content(0)
    held.close()
    assert read(cache, f"{web.url}/b.12") == content(1)
    assert not Path(held.path).exists()


def test_something_in_the_place_of_the_folder_is_one_line(web: Any, tmp_path: Path) -> None:
    (uri,) = serve(web, 1)
    (tmp_path / "a").mkdir()
    (tmp_path / "a/vjepa-exp").write_text("a file")
    (tmp_path / "b/vjepa-exp/lock").mkdir(parents=True)
    for name, place in (("a", "a/vjepa-exp"), ("b", "b/vjepa-exp/lock")):
        with pytest.raises(UserError, match=f"copies of remote files cannot be kept: {tmp_path}/{place}.*: "):
            Cache(tmp_path / name).hold(uri)


def test_a_library_that_removes_what_did_not_arrive_makes_no_file_missing(
    web: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As gcsfs does it: the copy is locked under its name by who waits for it, and a failure says nothing of a file."""

    class Tidy(HTTPFileSystem):  # type: ignore[misc]
        async def _get_file(self, rpath: str, lpath: str, **options: Any) -> None:
            try:
                await super()._get_file(rpath, lpath, **options)
            except BaseException:
                Path(lpath).unlink()
                raise

    system = Tidy(**remote._options("http"))
    monkeypatch.setattr(remote, "_filesystem", lambda scheme: system)
    monkeypatch.setattr(remote, "PAUSES_S", (0.01, 0.01))
    cache, (uri,) = Cache(tmp_path / "cache"), serve(web, 1)
    web.drops = {"/0.mp4": 3}
    with pytest.raises(UserError, match="3 times in a row"):
        cache.hold(uri)
    assert [path.name for path in cache.here.rglob("*") if path.is_file()] == ["lock"]
    web.drops = {"/0.mp4": 2}
    assert read(cache, uri) == content(0)
