"""Top-1 and views against sums done by hand."""

from __future__ import annotations

import math

import pytest
import torch

from vjepa_exp.evals.accuracy import Accuracy
from vjepa_exp.evals.views import average_views, join_segments


def test_counts_over_batches_of_unequal_size_are_one_count() -> None:
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.5, 0.3, 0.2], [0.2, 0.2, 0.6]])
    labels = torch.tensor([0, 1, 1, 0])
    accuracy = Accuracy(3)
    accuracy.update(probabilities[:3], labels[:3])
    accuracy.update(probabilities[3:], labels[3:])
    assert (accuracy.num_videos, accuracy.top1) == (4, 50.0)
    assert accuracy.top1_by_class == [50.0, 50.0, None]
    assert accuracy.loss == pytest.approx(-(math.log(0.7) + math.log(0.8) + math.log(0.3) + math.log(0.2)) / 4)


def test_chance_is_the_share_of_the_commonest_class() -> None:
    accuracy = Accuracy(3)
    for labels in ([0, 1, 1], [1, 2]):
        accuracy.update(torch.eye(3)[[0] * len(labels)], torch.tensor(labels))
    assert (accuracy.chance, accuracy.top1) == (60.0, 20.0)


def test_a_probability_of_zero_gives_a_large_but_finite_loss() -> None:
    accuracy = Accuracy(2)
    accuracy.update(torch.tensor([[1.0, 0.0]]), torch.tensor([1]))
    assert 80 < accuracy.loss < 100


def test_views_average_probabilities_not_logits() -> None:
    logits_BRC = torch.tensor([[[9.0, 0.0], [0.0, 2.0], [0.0, 2.0]]])
    probabilities = average_views(logits_BRC)
    by_hand = (1 / (1 + math.exp(-9)) + 2 / (1 + math.exp(2))) / 3
    assert probabilities[0].tolist() == pytest.approx([by_hand, 1 - by_hand])
    assert probabilities.argmax() == 1  # the mean of the logits would say 0


def test_segments_of_a_view_are_joined_in_time_order() -> None:
    # V = (segment 0: views a, b), (segment 1: views a, b); two tokens each, one channel
    tokens_BVND = torch.tensor([[0.0, 1.0], [10.0, 11.0], [2.0, 3.0], [12.0, 13.0]]).view(1, 4, 2, 1)
    assert join_segments(tokens_BVND, views=2)[0, :, :, 0].tolist() == [[0, 1, 2, 3], [10, 11, 12, 13]]
