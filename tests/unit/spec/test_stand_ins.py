"""Stand-ins for data sets: what they replace, what becomes one, and that all else stays as it was written."""

from __future__ import annotations

from typing import Any

import pytest

from vjepa_exp.spec.document import parse_yaml
from vjepa_exp.spec.stand_ins import stand_in_mixture

STAND_INS = {"k710": "demo", "ssv2": "demo", "howto100m": "other"}


def stood_in(text: str) -> list[dict[str, Any]]:
    document = parse_yaml(f"mixture: {text}\n", "x.yaml")
    stand_in_mixture(document, ("mixture",), STAND_INS)
    entries: list[dict[str, Any]] = document.data["mixture"]
    return entries


def test_entries_that_become_one_leave_the_others_as_they_are() -> None:
    first, own = "{dataset: k710, exclude: a.csv, weight: 3}", "{dataset: mine, exclude: b.csv, weight: 1}"
    assert stood_in(f"[{first}, {own}, {{dataset: ssv2, weight: 2}}]") == [
        {"dataset": "demo", "weight": 5},
        {"dataset": "mine", "exclude": "b.csv", "weight": 1},
    ]


@pytest.mark.parametrize(
    ("mixture", "expected"),
    [
        ("[{dataset: k710, exclude: a.csv}]", [{"dataset": "demo"}]),
        ("[{dataset: k710}, {dataset: demo, exclude: d.csv}]", [{"dataset": "demo", "exclude": "d.csv"}]),
        ("[{dataset: k710, weight: null}, {dataset: ssv2}]", [{"dataset": "demo", "weight": None}]),
        # what is wrong is left for the validation to find
        (
            "[{dataset: mine}, {dataset: mine}, {dataset: howto100m}]",
            [{"dataset": n} for n in ("mine", "mine", "other")],
        ),
        ("[{dataset: k710, weight: 1}, {dataset: ssv2}]", [{"dataset": "demo", "weight": 1}, {"dataset": "demo"}]),
        ("[{dataset: k710, wieght: 1}, {dataset: ssv2}]", [{"dataset": "demo", "wieght": 1}]),
        ("[k710, {dataset: k710}]", ["k710", {"dataset": "demo"}]),
    ],
)
def test_what_becomes_of_a_mixture(mixture: str, expected: object) -> None:
    assert stood_in(mixture) == expected


def test_entries_remember_where_they_were_written() -> None:
    document = parse_yaml(
        "mixture:\n- {dataset: k710}\n- {dataset: ssv2}\n- dataset: mine\n  exclude: b.csv\n", "x.yaml"
    )
    assert stand_in_mixture(document, ("mixture",), STAND_INS) == {"k710": "demo", "ssv2": "demo"}
    assert str(document.mark(("mixture", 0, "dataset"))) == "x.yaml:2"
    assert str(document.mark(("mixture", 1, "exclude"))) == "x.yaml:5"
