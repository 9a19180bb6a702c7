"""A long look at files: nothing that is on disk is done again, nothing that changed is believed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pytest

from vjepa_exp.data.findings import Look, forget, look_at
from vjepa_exp.data.guard import Lost, in_turn
from vjepa_exp.spec.errors import UserError

R = TypeVar("R")


def size_of(path: str) -> dict[str, Any]:
    return {"length": Path(path).stat().st_size, "note": f"“{Path(path).name}”"}


SIZES = Look(
    size_of, lambda path, reason: {"length": -1, "note": reason}, pa.schema({"length": "int32", "note": "string"})
)


class Watched:
    """`in_turn`, remembering what was asked for and stopping as a killed process does."""

    def __init__(self, stop_after: int = 10**9) -> None:
        self.asked: list[str] = []
        self._left = stop_after

    def __call__(self, work: Callable[[str], R], items: Sequence[str], /) -> Iterator[tuple[int, R | Lost]]:
        for number, item in enumerate(items):
            if self._left == 0:
                raise KeyboardInterrupt
            self._left -= 1
            self.asked.append(Path(item).name)
            yield from ((number, result) for _, result in in_turn(work, [item]))


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    paths = [tmp_path / f"ü {i}\n.mp4" for i in range(5)]
    for i, path in enumerate(paths):
        path.write_bytes(b"x" * i)
    return [str(path) for path in paths]


def stopped(files: list[str], kept: Path, after: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        look_at(files, SIZES, Watched(stop_after=after), kept=kept)


def test_results_stand_in_the_order_of_the_files(files: list[str]) -> None:
    def backwards(work: Callable[[str], R], items: Sequence[str], /) -> Iterator[tuple[int, R | Lost]]:
        return reversed(list(in_turn(work, items)))

    table = look_at(files, SIZES, backwards)
    assert table.schema == SIZES.columns
    assert table["length"].to_pylist() == [0, 1, 2, 3, 4]
    assert table["note"].to_pylist()[3] == "“ü 3\n.mp4”"


def test_a_stopped_look_goes_on_where_it_was(files: list[str], tmp_path: Path) -> None:
    kept, seen = tmp_path / "lists" / "kept.jsonl", list[tuple[int, int]]()
    stopped(files, kept, after=3)
    again = Watched()
    table = look_at(files, SIZES, again, kept=kept, progress=lambda done, total: seen.append((done, total)))
    assert again.asked == [Path(path).name for path in files[3:]]
    assert seen == [(3, 5), (4, 5), (5, 5)]
    assert table["length"].to_pylist() == [0, 1, 2, 3, 4]


def test_results_are_kept_until_they_are_forgotten(files: list[str], tmp_path: Path) -> None:
    kept, again = tmp_path / "kept.jsonl", Watched()
    first = look_at(files, SIZES, in_turn, kept=kept)
    assert look_at(files, SIZES, again, kept=kept).equals(first), "whoever asked was killed before writing them down"
    assert again.asked == []
    forget(kept)
    look_at(files, SIZES, again, kept=kept)
    assert len(again.asked) == 5


def test_a_file_that_changed_or_vanished_meanwhile_is_looked_at_again(files: list[str], tmp_path: Path) -> None:
    kept = tmp_path / "kept.jsonl"
    stopped(files, kept, after=4)
    Path(files[0]).write_bytes(b"longer")
    os.utime(files[1], ns=(0, 0))
    again = Watched()
    table = look_at(files, SIZES, again, kept=kept)
    assert again.asked == [Path(files[i]).name for i in (0, 1, 4)]
    assert table["length"].to_pylist() == [6, 1, 2, 3, 4]


def test_a_line_cut_by_the_kill_is_done_again(files: list[str], tmp_path: Path) -> None:
    kept = tmp_path / "kept.jsonl"
    stopped(files, kept, after=3)
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-20])
    again = Watched()
    assert look_at(files, SIZES, again, kept=kept)["length"].to_pylist() == [0, 1, 2, 3, 4]
    assert again.asked == [Path(path).name for path in files[2:]]
    kept.write_bytes(whole[:20])
    assert look_at(files, SIZES, in_turn, kept=kept)["length"].to_pylist() == [0, 1, 2, 3, 4]


def test_results_with_other_columns_are_not_used(files: list[str], tmp_path: Path) -> None:
    kept = tmp_path / "kept.jsonl"
    stopped(files, kept, after=3)
    other = Look(size_of, SIZES.lost, pa.schema({"length": "int64", "note": "string"}))
    again = Watched()
    look_at(files, other, again, kept=kept)
    assert len(again.asked) == 5


def test_a_lost_file_has_what_stands_for_a_result(files: list[str]) -> None:
    def lose(work: Callable[[str], R], items: Sequence[str], /) -> Iterator[tuple[int, R | Lost]]:
        return ((number, Lost("gone") if number == 2 else result) for number, result in in_turn(work, items))

    table = look_at(files, SIZES, lose)
    assert table.to_pylist()[2] == {"length": -1, "note": "gone"}


def test_two_at_once_are_refused(files: list[str], tmp_path: Path) -> None:
    def nested(work: Callable[[str], R], items: Sequence[str], /) -> Iterator[tuple[int, R | Lost]]:
        with pytest.raises(UserError, match="in use"):
            look_at(files, SIZES, in_turn, kept=tmp_path / "kept.jsonl")
        return in_turn(work, items)

    assert len(look_at(files, SIZES, nested, kept=tmp_path / "kept.jsonl")) == 5


KILLED = """
import sys
from functools import partial
from pathlib import Path
from vjepa_exp.data.guard import each_locally
from vjepa_exp.data.index import index_listing
from vjepa_exp.data.listing import list_files
if __name__ == "__main__":
    each = partial(each_locally, processes=1, deadline_s=60)
    index_listing(list_files(Path(sys.argv[1])), each=each, kept=Path(sys.argv[2]))
"""


def test_an_index_killed_for_real_probes_nothing_twice(make_video, tmp_path: Path) -> None:
    from vjepa_exp.data.index import index, index_listing
    from vjepa_exp.data.listing import list_files

    for i in range(60):
        make_video(tmp_path / "videos" / f"{i:02d}.mp4", frames=3 + i % 5)
    kept, script = tmp_path / "kept.jsonl", tmp_path / "killed.py"
    script.write_text(KILLED)
    process = subprocess.Popen([sys.executable, script, tmp_path / "videos", kept])
    deadline = time.monotonic() + 200
    while not kept.exists() or kept.read_bytes().count(b"\n") < 5:
        assert time.monotonic() < deadline, "nothing was found"
        assert process.poll() is None, "was not killed in time"
        time.sleep(0.005)
    process.kill()
    process.wait()
    lines = kept.read_bytes()
    known = [json.loads(line)["_file"] for line in lines[: lines.rfind(b"\n") + 1].splitlines()]
    assert 5 <= len(known) < 60
    again = Watched()
    manifest = index_listing(list_files(tmp_path / "videos"), each=again, kept=kept)
    assert len(again.asked) == 60 - len(known)
    assert not set(again.asked) & {Path(path).name for path in known}
    assert manifest.table.equals(index(tmp_path / "videos").table)
