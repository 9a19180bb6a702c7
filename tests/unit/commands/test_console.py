"""Progress where nobody watches: lines with what is left."""

from __future__ import annotations

import time

import pytest

from vjepa_exp.commands import console


def test_lines_tell_what_is_left_by_the_speed_since_the_first_result(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with console.progress("files") as show:
        for seconds, done in ((0, 600), (300, 601), (305, 651), (311, 711), (315, 741), (350, 1000)):
            clock[0] = seconds
            show(done, 1000)
    assert capsys.readouterr().err.splitlines() == [
        "files: 711 of 1000, 29 s left",
        "files: 1000 of 1000, 0 s left",
    ]
