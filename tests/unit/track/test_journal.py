"""The journal: what is written is read, and what is trained again is written once."""

from __future__ import annotations

from pathlib import Path

from vjepa_exp.track.journal import Journal, read_journal


def write(path: Path, step: int, *steps: int) -> None:
    journal = Journal(path, step)
    for number in steps:
        journal.write(number, {"loss": 1 / number})
    journal.close()


def test_rows_after_the_checkpoint_are_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, 0, 1, 2, 3, 4)
    write(path, 2, 3, 4, 5)
    rows = read_journal(path)
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["loss"] for row in rows] == [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]
    assert [row["step"] for row in read_journal(path, after=3)] == [4, 5]


def test_a_line_that_was_cut_short_is_left_out_and_then_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, 0, 1, 2)
    with path.open("a", encoding="utf-8") as file:
        file.write('{"step": 3, "ti')
    assert [row["step"] for row in read_journal(path)] == [1, 2]
    write(path, 2, 3)
    assert [row["step"] for row in read_journal(path)] == [1, 2, 3]


def test_a_stage_that_has_not_begun_has_an_empty_journal(tmp_path: Path) -> None:
    assert read_journal(tmp_path / "metrics.jsonl") == []
