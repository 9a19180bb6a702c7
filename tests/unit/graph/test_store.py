from __future__ import annotations

import fcntl
import json
import os
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from vjepa_exp.graph.demo import FAMILIES
from vjepa_exp.graph.stage import Stage
from vjepa_exp.graph.store import RECORD, Store
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.stages import DataRecipe


@pytest.fixture
def stage() -> Stage:
    return Stage("data", "tiny", DataRecipe(family="tiny", digest=FAMILIES["tiny"].digest))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def finish(store: Store, stage: Stage, **extra: object) -> Path:
    folder = store.begin(stage)
    (folder / "clips").mkdir(exist_ok=True)
    (folder / "clips" / "0.mp4").write_bytes(b"12345")
    store.commit(stage, {"clips": 1}, ["clips/0.mp4"], dict(extra))
    return folder


def test_a_stage_is_done_only_when_its_record_is_written(store: Store, stage: Stage) -> None:
    assert store.record(stage) is None
    folder = store.begin(stage)
    assert store.record(stage) is None
    finish(store, stage, seconds=1.5, execution={"workers": 2})
    record = store.record(stage)
    assert record is not None
    assert (record.fingerprint, record.seconds, record.execution) == (stage.fingerprint, 1.5, {"workers": 2})
    assert record.files == {"clips/0.mp4": 5}
    assert record.recipe == stage.recipe.to_json()
    assert record.environment["python"] == ".".join(map(str, sys.version_info[:3]))
    assert [found.stage for found in store.records()] == [folder.name]


def test_begin_keeps_what_a_broken_run_left(store: Store, stage: Stage) -> None:
    (store.begin(stage) / "state.pt").write_bytes(b"half way")
    assert (store.begin(stage) / "state.pt").read_bytes() == b"half way"


def test_a_file_of_the_record_that_is_gone_is_an_error_with_a_remedy(store: Store, stage: Stage) -> None:
    folder = finish(store, stage)
    (folder / "clips" / "0.mp4").write_bytes(b"1")
    with pytest.raises(UserError, match=r"clips/0.mp4 is not the file of 5 bytes .* delete the folder"):
        store.record(stage)


@pytest.mark.parametrize("text", ["", '{"format": 1, "sta', "[]", '{"format": 99}'])
def test_a_damaged_record_is_one_clear_line(store: Store, stage: Stage, text: str) -> None:
    folder = finish(store, stage)
    (folder / RECORD).write_text(text)
    with pytest.raises(UserError) as caught:
        store.record(stage)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_record_of_another_fingerprint_is_never_served(store: Store, stage: Stage) -> None:
    folder = finish(store, stage)
    record = json.loads((folder / RECORD).read_text())
    record["fingerprint"] = stage.fingerprint[:8] + "0" * 56
    (folder / RECORD).write_text(json.dumps(record))
    with pytest.raises(UserError, match="belongs to another stage"):
        store.record(stage)


def test_a_store_that_cannot_be_written_is_one_clear_line(tmp_path: Path, stage: Stage) -> None:
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file" / "runs")
    assert store.record(stage) is None
    for attempt in (lambda: store.begin(stage), lambda: store.lock().__enter__()):
        with pytest.raises(UserError, match="the store cannot be written: Not a directory"):
            attempt()


def test_a_full_disk_leaves_no_record(store: Store, stage: Stage) -> None:
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64));"
        "from pathlib import Path; from vjepa_exp.graph.store import Store; import pickle, sys;"
        "Store(Path(sys.argv[1])).commit(pickle.loads(bytes.fromhex(sys.argv[2])), {}, [], {})"
    )
    folder = store.begin(stage)
    done = subprocess.run(
        [sys.executable, "-c", code, str(store.root), pickle.dumps(stage).hex()], capture_output=True, text=True
    )
    assert "UserError: the store cannot be written: File too large" in done.stderr
    assert not (folder / RECORD).exists()


def test_a_second_run_on_one_store_is_told_who_holds_it(store: Store) -> None:
    code = (
        "import sys; from pathlib import Path; from vjepa_exp.graph.store import Store\n"
        "with Store(Path(sys.argv[1])).lock(): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(store.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(UserError, match=rf"in use by process {other.pid} \(.*\) on .*, since 20.* delete .*lock"),
            store.lock(),
        ):
            pass
        other.kill()
    with store.lock():
        assert f"process {os.getpid()} " in (store.root / ".lock").read_text()


def test_whether_a_run_holds_the_store_is_told_without_taking_it(store: Store) -> None:
    assert store.held_since() is None
    assert not store.root.exists()
    before = time.time()
    with store.lock():
        since = store.held_since()
        assert since is not None
        assert before - 1 <= since <= time.time() + 1
        assert store.held_since() == since
    assert store.held_since() is None
    with store.lock():
        pass


def test_a_glance_at_the_lock_does_not_keep_a_run_from_it(store: Store) -> None:
    with store.lock():
        pass
    with (store.root / ".lock").open() as glance:
        fcntl.flock(glance, fcntl.LOCK_SH)
        release = threading.Timer(0.05, lambda: fcntl.flock(glance, fcntl.LOCK_UN))
        release.start()
        with store.lock():
            pass
        release.join()
