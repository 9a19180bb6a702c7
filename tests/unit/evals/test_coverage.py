"""What a score covers, and when it covers too little."""

from __future__ import annotations

import pytest

from vjepa_exp.evals.coverage import Coverage, Unreadable
from vjepa_exp.spec.errors import UserError

BAD = [Unreadable("b.mp4", "zero bytes"), Unreadable("a.mp4", "truncated")]


def test_unreadable_videos_count_once_in_order() -> None:
    coverage = Coverage.of(40, [*BAD, BAD[0], Unreadable("a.mp4", "zero bytes")])
    assert coverage.covered == 38
    assert coverage.unreadable == (BAD[1], BAD[0])


def test_reasons_are_counted_by_data_set_and_kind() -> None:
    bad = [
        Unreadable("a.mp4", "open: Invalid data", "k710"),
        Unreadable("b.mp4", "open: empty file", "k710"),
        Unreadable("b.mp4", "crash: crashed the decoder", "ssv2"),
        Unreadable("b.mp4", "crash: crashed the decoder", "ssv2"),
    ]
    assert Coverage.of(9, bad).by_reason() == {"k710": {"open": 2}, "ssv2": {"crash": 1}}
    assert Coverage.of(9, []).by_reason() == {}


def test_the_limit_itself_is_allowed() -> None:
    Coverage.of(40, BAD).require(0.05, "test split")


@pytest.mark.parametrize(
    ("coverage", "message"),
    [
        (Coverage.of(39, BAD), r"test split: 2 of 39 videos .* 5%\), first a\.mp4: truncated"),
        (Coverage.of(2, BAD), "2 of 2 videos"),
        (Coverage(0), "test split has no videos"),
    ],
)
def test_too_little_is_refused_with_an_example(coverage: Coverage, message: str) -> None:
    with pytest.raises(UserError, match=message):
        coverage.require(0.05, "test split")
