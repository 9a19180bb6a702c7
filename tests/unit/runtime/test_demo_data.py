"""Demo data in the store: all of it, or the next call goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from vjepa_exp.commands.demo import demo_stage
from vjepa_exp.data.guard import Lost, each_locally
from vjepa_exp.data.manifest import read_manifest
from vjepa_exp.graph.demo import DemoSpec
from vjepa_exp.runtime import demo_data
from vjepa_exp.runtime.job import Outcome, manifest_name
from vjepa_exp.spec.errors import UserError

R = TypeVar("R")
SMALL = DemoSpec(num_train=8, num_val=8, num_train_stills=8, num_val_stills=8, num_frames=4)


def test_demo_files_that_were_lost_stop_the_stage_and_are_read_by_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = ["00003.mp4"]

    def killing(
        work: Callable[[str], R], items: Sequence[str], /, *, processes: int, deadline_s: float
    ) -> Iterator[tuple[int, R | Lost]]:
        for number, result in each_locally(work, items, processes=processes, deadline_s=deadline_s):
            lost = killed and Path(items[number]).name == killed[0]
            yield number, Lost("its process died by SIGKILL") if lost else result

    monkeypatch.setattr(demo_data, "FAMILIES", {"tiny": SMALL})
    monkeypatch.setattr(demo_data, "each_locally", killing)

    def make() -> Outcome:
        return demo_data.make_demo_data(demo_stage("tiny"), tmp_path, 1, lambda done, total: None)

    with pytest.raises(UserError, match=r"^2 of 16 demo files were not read, such as .*00003.mp4: its process died by"):
        make()
    assert not list(tmp_path.glob("*.parquet"))
    killed.clear()
    outcome = make()
    assert set(outcome.metrics.values()) == {16.0}
    for dataset in outcome.metrics:
        assert read_manifest(tmp_path / manifest_name(dataset)).column("decodable").all()
