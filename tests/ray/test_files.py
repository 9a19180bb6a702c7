"""Work on files as Ray tasks: all results, whatever an item does to its process."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from vjepa_exp.data.guard import Lost, in_turn
from vjepa_exp.data.index import index, index_listing
from vjepa_exp.data.listing import list_files
from vjepa_exp.data.prepare import prepare
from vjepa_exp.data.prepare_folder import Owner
from vjepa_exp.data.reencode import Settings
from vjepa_exp.data.signature_store import keep_signatures
from vjepa_exp.runtime import files
from vjepa_exp.runtime.files import EachFile

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]


@pytest.fixture(autouse=True)
def _always_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "RAY_FROM", 1)


def test_every_item_has_its_result() -> None:
    numbers = range(-300, 0)
    assert sorted(EachFile(chunk=7)(abs, numbers)) == [(i, 300 - i) for i in range(300)]


def test_a_death_costs_one_item() -> None:
    signals = [0, signal.SIGKILL, 0, signal.SIGSEGV, 0]
    results = dict(EachFile(chunk=5)(signal.raise_signal, signals))
    assert results == {
        0: None,
        1: Lost("its process died by SIGKILL"),
        2: None,
        3: Lost("its process died by SIGSEGV"),
        4: None,
    }


def test_a_hang_costs_one_item_and_its_time() -> None:
    results = dict(EachFile(deadline_s=2, chunk=3)(time.sleep, [0, 1000, 0]))
    assert results == {0: None, 1: Lost("its process did not come back in 2 s"), 2: None}


def test_a_ray_worker_that_is_killed_loses_nothing() -> None:
    results = EachFile(chunk=1)(time.sleep, [0.2] * 60)
    found = [next(results)]
    workers = [p for p in psutil.Process().children(recursive=True) if "ray::_chunk" in " ".join(p.cmdline())]
    assert workers
    os.kill(workers[0].pid, signal.SIGKILL)
    found += results
    assert sorted(found) == [(i, None) for i in range(60)]


def test_an_index_on_ray_is_that_of_one_process(datasets_file: Path, tmp_path: Path) -> None:
    videos = datasets_file.parent / "videos"
    manifest = index_listing(list_files(videos), each=EachFile(chunk=2), kept=tmp_path / "kept.jsonl")
    assert manifest.table.equals(index(videos).table)
    assert manifest.column("decodable").all()


def test_a_set_prepared_on_ray_is_that_of_one_process(datasets_file: Path, tmp_path: Path) -> None:
    source, settings = index(datasets_file.parent / "videos"), Settings(short_side=24, preset="ultrafast")
    found = [
        prepare(source, tmp_path / name, settings, {}, owner=Owner("a", "b", tmp_path / "a"), min_psnr=15, each=each)
        for name, each in (("ray", EachFile(chunk=1)), ("here", in_turn))
    ]
    on_ray, here = (prepared.manifest.table.drop("bytes") for prepared in found)
    assert on_ray.equals(here)
    assert found[0].manifest.column("decodable").all()


def test_signatures_on_ray_are_those_of_one_process(datasets_file: Path, tmp_path: Path) -> None:
    paths = [str(path) for path in sorted((datasets_file.parent / "videos").rglob("*.mp4"))]
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    each = EachFile(chunk=4)
    with each.started(len(paths)):
        store = keep_signatures([*paths, str(broken)], tmp_path / "ray", each)
    assert store.hashes()[:-1].tolist() == keep_signatures(paths, tmp_path / "here", in_turn).hashes().tolist()
    [(path, reason)] = store.unreadable()
    assert path == str(broken)
    assert reason.startswith("DecodeError: open: ")
