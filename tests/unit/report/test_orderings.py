"""Which of the paper's orderings hold: every pair of rows once, judged by the error of what was measured."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any

import numpy as np
import pytest

from vjepa_exp.report.markdown import markdown
from vjepa_exp.report.orderings import SURE, Verdict, _of_seeds, count_verdicts, orderings
from vjepa_exp.report.page import build_page
from vjepa_exp.report.table import Gap, build_table
from vjepa_exp.report.words import order_note, score_note

AS_PUBLISHED = {"tube": 20.0, "causal6": 40.0, "causal12": 60.0, "multiblock": 80.0}
Finish = Callable[..., Any]


def pairs_of(finish: Finish, scores: dict[str, float], covered: int, seeds: str = "[0]") -> Any:
    def top1(variant: str, column: str, seed: int, baseline: bool) -> float:
        return 99.0 if baseline else scores[variant] + 8 * (seed - 1) * (variant == "multiblock")

    done = finish("table4_masking.yaml", "smoke", top1, (f"seeds={seeds}",), covered=covered)
    return orderings(build_table(done.result))


def test_each_pair_is_compared_once_and_baselines_with_nothing(finish: Finish) -> None:
    pairs = pairs_of(finish, AS_PUBLISHED, 3000)
    assert len(pairs) == 3 * 6
    assert {pair.verdict for pair in pairs} == {Verdict.HOLDS}
    assert all(pair.published > 0 for pair in pairs)
    assert {tuple(found.values()) for found in count_verdicts(pairs).values()} == {(6,)}
    assert "Of 18 pairs of rows that the paper orders, here: 18 as in the paper, 0 the other way" in order_note(pairs)
    assert "one seed says nothing of seeds" in order_note(pairs)
    assert "and of the seeds" in order_note(pairs_of(finish, AS_PUBLISHED, 3000, "[0, 1]"))


def test_what_is_reversed_is_said(finish: Finish) -> None:
    turned = dict(zip(AS_PUBLISHED, reversed(AS_PUBLISHED.values()), strict=True))
    assert {pair.verdict for pair in pairs_of(finish, turned, 3000)} == {Verdict.REVERSED}


def test_few_test_videos_decide_less(finish: Finish) -> None:
    verdicts = [pair.verdict for pair in pairs_of(finish, AS_PUBLISHED, 20)]
    assert verdicts.count(Verdict.OPEN) == 3 * 3  # neighbours
    assert verdicts.count(Verdict.HOLDS) == 3 * 3
    [pair] = [p for p in pairs_of(finish, AS_PUBLISHED, 20) if (p.column, p.published) == ("K400", 72.9 - 51.5)]
    by_hand = [(share * 20 + 1) / 22 for share in (0.2, 0.72)]  # seed 0: 80 - 8
    assert pair.error == pytest.approx(100 * sqrt(sum(p * (1 - p) / 20 for p in by_hand)))


def test_seeds_that_differ_decide_less(finish: Finish) -> None:
    close = {**AS_PUBLISHED, "multiblock": 64.0}
    best = {("causal multi-block[12]", "multi-block"), ("multi-block", "causal multi-block[12]")}
    for seeds, verdict in (("[1]", Verdict.HOLDS), ("[0, 1, 2]", Verdict.OPEN)):
        pairs = [p for p in pairs_of(finish, close, 30000, seeds) if (p.better, p.worse) in best and p.column == "K400"]
        assert [pair.verdict for pair in pairs] == [verdict]
        assert pairs[0].ours.mean == pytest.approx(4.0)


def test_a_figure_without_printed_numbers_is_ordered_by_the_earlier_version(finish: Finish) -> None:
    earlier = {"M01": 23.0, "M02": 31.0, "M03": 44.0}
    done = finish("figure8_masking.yaml", "smoke", lambda v, *_: 100 - earlier.get(v, 50.0), covered=3000)
    pairs = orderings(build_table(done.result))
    label = "(c) 1 block of {} px, 100 % of the length".format
    [two_sizes] = [pair for pair in pairs if (pair.better, pair.worse) == (label(192), label(112))]
    assert (two_sizes.published, two_sizes.ours.mean, two_sizes.verdict) == (21.0, -21.0, Verdict.REVERSED)
    assert all(pair.earlier for pair in pairs)
    assert "of rows that the earlier version of the paper (ICLR 2024 submission) orders" in order_note(pairs)


def test_the_spread_of_two_or_three_seeds_is_not_trusted() -> None:
    """Rows of one mean whose seeds differ by 10 points are called different no more often than a few per cent."""
    rng = np.random.default_rng(0)
    gaps = rng.normal(0, 10, (4000, 3))
    for seeds in (2, 3):
        drawn = gaps[:, :seeds]
        errors = [_of_seeds(Gap(0, float(sd)), seeds) for sd in drawn.std(axis=1, ddof=1)]
        called = np.abs(drawn.mean(axis=1)) >= SURE * np.array(errors)
        assert 0.03 < called.mean() < 0.07
    assert _of_seeds(Gap(3.0), 1) == 0.0


def test_seeds_of_probes_are_no_seeds_of_encoders(finish: Finish) -> None:
    done = finish("table7_few_labels.yaml", "laptop", lambda v, c, seed, b: 40.0 + seed)
    table = build_table(done.result)
    assert "over 3 seeds of the probe, on one encoder each" in score_note(table)
    assert "of the probes' seeds: one encoder a row says nothing of others" in order_note(orderings(table))


def test_the_report_shows_them_where_the_paper_orders_anything(finish: Finish) -> None:
    done = finish("table4_masking.yaml", "smoke", lambda v, *_: AS_PUBLISHED[v])
    text = markdown(build_page(done.result, done.store, "command"))
    assert "## Orderings" in text
    assert "| column | as in the paper | the other way | too close to call |" in text
    plain = finish("quickstart.yaml", "paper", lambda *_: 60.0)
    assert "## Orderings" not in markdown(build_page(plain.result, plain.store, "command"))
