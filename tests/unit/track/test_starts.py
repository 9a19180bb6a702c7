"""Starts of a stage: what is noted is read, and said in a line."""

from __future__ import annotations

from pathlib import Path

from vjepa_exp.track.starts import STARTS, Start, note_start, read_starts

FIRST = Start(0, 0, 1000.0, {"plan": 1.0, "ray": 4.0, "workers": 6.0, "restore": 0.5, "batch": 2.0, "step": 0.25})
AGAIN = Start(400, 12, 2000.0, {"workers": 6.0, "restore": 0.5, "batch": 2.0, "step": 0.25})


def test_starts_are_read_in_their_order_without_a_line_that_was_cut_short(tmp_path: Path) -> None:
    assert read_starts(tmp_path) == []
    for start in (FIRST, AGAIN):
        note_start(tmp_path, start)
    with (tmp_path / STARTS).open("a", encoding="utf-8") as file:
        file.write('{"step": 500, "rep')
    assert read_starts(tmp_path) == [FIRST, AGAIN]


def test_a_start_is_said_in_a_line() -> None:
    assert str(FIRST).startswith("at step 0 after 14 s (plan 1.0, ray 4.0, ")
    assert str(AGAIN) == ("at step 400 after 9 s (workers 6.0, restore 0.5, batch 2.0, step 0.2, 12 steps done again)")
