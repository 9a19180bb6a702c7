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
    return Quarantine(folder, World(), 4, [INDEXED], max_unreadable)


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
    with pytest.raises(UserError, match="3 of 4"):  # the next run need not find them again
        quarantine(tmp_path)


def test_nothing_to_list_leaves_no_file(tmp_path: Path) -> None:
    clean = Quarantine(tmp_path, World(), 4, [], 0.0)
    assert list(clean.watch([batch()]))
    assert clean.keep().covered == 4
    assert list(tmp_path.iterdir()) == []
