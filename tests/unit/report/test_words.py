"""Numbers as words."""

from __future__ import annotations

import pytest

from vjepa_exp.report import words
from vjepa_exp.report.table import Score


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_duration(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(40, "40 s"), (2220, "37 min"), (10_800, "3 h"), (86_400 * 27, "27 days")]
)
def test_roughly(seconds: float, text: str) -> None:
    assert words.roughly(seconds) == text


def test_score_of_one_seed_has_no_spread() -> None:
    assert words.score(Score((43.14,), 32, 32)) == "43.1"
    assert words.score(Score((42.0, 44.0), 32, 32)) == "43.0 ± 1.4"


def test_score_that_failed_differs_from_one_that_was_not_asked_for() -> None:
    assert words.score(Score((), 0, 0, ("it died",))) == "failed"
    assert words.score(None) == words.MISSING


def test_gap_has_a_sign() -> None:
    assert words.gap(3.14) == "+3.1"
    assert words.gap(-3.14) == "\N{MINUS SIGN}3.1"
    assert words.gap(None) == ""
