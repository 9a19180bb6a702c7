"""Numbers as words."""

from __future__ import annotations

import pytest

from vjepa_exp.report import words
from vjepa_exp.report.table import Gap, Score, build_table


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
    assert words.score(Score({0: 43.14}, 32, 32)) == "43.1"
    assert words.score(Score({0: 42.0, 1: 44.0}, 32, 32)) == "43.0 ± 1.4"


def test_score_that_failed_differs_from_one_that_was_not_asked_for() -> None:
    assert words.score(Score({}, 0, 0, ("it died",))) == "failed"
    assert words.score(None) == words.MISSING


def test_gap_has_a_sign() -> None:
    assert words.gap(Gap(3.14)) == "+3.1"
    assert words.gap(Gap(-3.14)) == "\N{MINUS SIGN}3.1"
    assert words.gap(Gap(3.14, 0.26)) == "+3.1 ± 0.3"
    assert words.gap(None) == ""


def test_coverage_is_said_once_where_it_is_the_same(finish) -> None:
    whole = build_table(finish("table4_masking.yaml", "smoke", lambda *_: 20.0).result)
    assert [words.common_coverage(whole, column) for column in whole.columns] == ["32 of 32"] * 3
    lost = []

    def first(stage) -> bool:
        if stage.kind == "probe" and not lost:
            lost.append(stage)
        return stage in lost

    part = build_table(finish("table4_masking.yaml", "smoke", lambda *_: 20.0, failed=first).result)
    assert [words.common_coverage(part, column) for column in part.columns] == ["", "32 of 32", "32 of 32"]


def test_note_says_how_far_a_score_can_be_trusted(finish) -> None:
    one = words.score_note(build_table(finish("quickstart.yaml", "paper", lambda *_: 20.0).result))
    assert one == (
        "Top-1 in percent, one seed. On 32 test clips the standard error of one score is up to 8.8 points. "
        "Chance: always naming the commonest class."
    )
    three = finish("quickstart.yaml", "paper", lambda *_: 20.0, ("seeds=[0, 1, 2]",))
    assert "mean ± standard deviation over 3 seeds" in words.score_note(build_table(three.result))
    nothing = finish("quickstart.yaml", "paper", lambda *_: 20.0, failed=lambda stage: True)
    assert words.score_note(build_table(nothing.result)) == "Top-1 in percent, one seed."
