"""What a pretraining skips: known over restarts, listed before the stage stops for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vjepa_exp.evals.coverage import Unreadable
from vjepa_exp.runtime.quarantine import QUARANTINE, Quarantine, read_quarantine
from vjepa_exp.spec.errors import UserError
from vjepa_exp.train.world import World

INDEXED = Unreadable("/v/a.mp4", "corrupt: truncated", "k710")
FOUND = Unreadable("/v/b.mp4", "open: Invalid data", "ssv2")
MORE = Unreadable("/v/c.mp4", "crash: crashed the decoder", "ssv2")


def batch(*skipped: Unreadable) -> dict[str, Any]:
    text = json.dumps([vars(one) for one in skipped]) if skipped else ""
    return {"skipped": np.array(["", text])}


def quarantine(folder: Path, max_unreadable: float = 0.5) -> Quarantine:
    return Quarantine(folder, folder / "checkpoint", World(), 4, [INDEXED], max_unreadable)


def test_what_was_skipped_is_known_after_a_restart(tmp_path: Path) -> None:
    first = quarantine(tmp_path)
    assert len(list(first.watch([batch(), batch(FOUND), batch(FOUND)]))) == 3
    assert first.keep().by_reason() == {"k710": {"corrupt": 1}, "ssv2": {"open": 1}}
    assert read_quarantine(tmp_path) == [INDEXED, FOUND]
    again = quarantine(tmp_path)
    assert again.coverage == first.coverage
    assert again.coverage.covered == 2


def test_too_many_stop_the_stage_and_are_listed(tmp_path: Path) -> None:
    batches = quarantine(tmp_path).watch([batch(FOUND), batch(MORE), batch()])
    assert len(next(batches)["skipped"]) == 2
    with pytest.raises(UserError, match=r"3 of 4 videos .* 50%\), first /v/a\.mp4: .*; all are listed") as error:
        next(batches)
    assert str(error.value).endswith(str(tmp_path / QUARANTINE))
    assert read_quarantine(tmp_path) == [INDEXED, FOUND, MORE]


def test_what_stopped_a_stage_is_tried_again_from_its_checkpoint(tmp_path: Path) -> None:
    first = quarantine(tmp_path)
    batches = first.watch([batch(FOUND), batch(MORE), batch()])
    next(batches)
    first.keep()
    with pytest.raises(UserError, match="3 of 4"):
        next(batches)
    again = quarantine(tmp_path)
    assert again.coverage.unreadable == (INDEXED, FOUND)
    assert read_quarantine(tmp_path) == [INDEXED, FOUND]


class _Two(World):
    """Rank 0 of two workers; the other one has skipped a video of its own."""

    def gather(self, value: Any) -> list[Any]:
        return [value, {MORE}]


def test_workers_that_skip_different_videos_skip_too_many_together(tmp_path: Path) -> None:
    two = Quarantine(tmp_path, tmp_path / "checkpoint", _Two(), 4, [INDEXED], 0.5)
    assert list(two.watch([batch(FOUND)]))
    with pytest.raises(UserError, match="3 of 4 videos"):
        two.keep()
    assert read_quarantine(tmp_path) == [INDEXED, FOUND, MORE]
    assert not (tmp_path / "checkpoint").exists()


def test_nothing_to_list_leaves_no_file(tmp_path: Path) -> None:
    clean = Quarantine(tmp_path, tmp_path / "checkpoint", World(), 4, [], 0.0)
    assert list(clean.watch([batch()]))
    assert clean.keep().covered == 4
    assert list(tmp_path.iterdir()) == []
