"""The arithmetic of what a worker reads."""

from __future__ import annotations

import pytest

from vjepa_exp.runtime.rows import Rows
from vjepa_exp.train.world import World


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_the_workers_cover_every_position_of_every_epoch_once(world: int) -> None:
    ranks = [Rows.epochs(epoch_size=23, num_epochs=3, batch_size=7, rank=rank, world=world) for rank in range(world)]
    seen = [p for k in range(ranks[0].num_batches) for rows in ranks for p in rows.positions(k)]
    assert seen == list(range(69))


def test_shares_are_those_of_the_training_world() -> None:
    for rank in range(3):
        rows = Rows(batch_size=11, num_batches=4, rank=rank, world=3)
        share = World(rank=rank, size=3).rows(11)
        assert rows.positions(2) == range(22 + share.start, 22 + share.stop)
