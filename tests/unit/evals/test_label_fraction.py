"""Few labels: balanced, nested, and a function of the seed."""

from __future__ import annotations

import numpy as np

from vjepa_exp.evals.label_fraction import held_out_rows, labelled_rows

LABELS = np.array([0] * 100 + [1] * 40 + [2] * 3)[np.random.default_rng(0).permutation(143)]


def test_each_class_keeps_its_share_and_at_least_one() -> None:
    rows = labelled_rows(LABELS, 0.1, seed=1)
    assert np.bincount(LABELS[rows]).tolist() == [10, 4, 1]
    assert (np.diff(rows) > 0).all()


def test_a_smaller_fraction_lies_in_a_larger_one() -> None:
    small, large = (set(labelled_rows(LABELS, fraction, seed=1).tolist()) for fraction in (0.05, 0.5))
    assert small < large


def test_the_seed_chooses_the_videos() -> None:
    assert labelled_rows(LABELS, 0.1, seed=1).tolist() == labelled_rows(LABELS, 0.1, seed=1).tolist()
    assert labelled_rows(LABELS, 0.1, seed=1).tolist() != labelled_rows(LABELS, 0.1, seed=2).tolist()


def test_the_whole_keeps_everything() -> None:
    assert labelled_rows(LABELS, 1.0, seed=1).tolist() == list(range(143))


def test_held_out_videos_are_of_every_class_but_never_its_last() -> None:
    labels = np.array([0] * 20 + [1] * 4 + [2])
    rows = held_out_rows(labels, 0.2, seed=3)
    assert [int((labels[rows] == label).sum()) for label in range(3)] == [4, 1, 0]
    assert rows.tolist() == held_out_rows(labels, 0.2, seed=3).tolist() != held_out_rows(labels, 0.2, seed=4).tolist()
    assert len(held_out_rows(labels, 0.999, seed=3)) == 19 + 3
    assert len(held_out_rows(np.arange(5), 0.5, seed=3)) == 0
