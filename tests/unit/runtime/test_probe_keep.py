"""When a probe's checkpoint is written, and when the one before it has to stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vjepa_exp.evals.coverage import Unreadable
from vjepa_exp.graph.stage import Stage
from vjepa_exp.runtime import notice
from vjepa_exp.runtime.job import CHECKPOINT, StageJob
from vjepa_exp.runtime.probe_keep import ProbeKeeper
from vjepa_exp.runtime.slots import Slots
from vjepa_exp.runtime.steps import StepReporter
from vjepa_exp.spec.data import ClipSpec
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.evaluate import AttentiveProbe
from vjepa_exp.spec.execution import ExecutionSpec
from vjepa_exp.spec.model import ModelSpec
from vjepa_exp.spec.stages import ProbeRecipe
from vjepa_exp.train.checkpoint import step_reached
from vjepa_exp.train.loop import StepInfo
from vjepa_exp.train.probe_step import ProbeState
from vjepa_exp.train.world import World
from vjepa_models.probes import LinearProbe

METRICS: Any = None


def test_probes_on_too_few_readable_videos_keep_the_checkpoint_before_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notice, "_drained", lambda: False)  # no controller of Ray Train tells this process anything
    probe = AttentiveProbe(kind="attentive_probe", dataset="toy", clip=ClipSpec())
    recipe = ProbeRecipe(seed=0, model=ModelSpec(), encoder="random_init", probe=probe, digests={})
    stage = Stage("probe", "toy", recipe)
    execution = ExecutionSpec(checkpoint_every=2, max_unreadable=0.2)
    job = StageJob(stage, "", tmp_path, tmp_path, {}, {}, None, execution, Slots("cpu", 1, 1, 1, 1))
    state = ProbeState.of(LinearProbe(8, 2, 0), World(), set())
    keep = ProbeKeeper([job], World(), "order", 10).hook(job, StepReporter(job, World()))
    for state.step in range(1, 7):
        if state.step > 3:  # the disk is away
            state.unreadable.add(Unreadable(f"/v/{state.step}.mp4", "open: No such file"))
        if state.step == 6:
            with pytest.raises(UserError, match="training split of toy: 3 of 10 videos"):
                keep(StepInfo(state.step, 9, state, METRICS, 1))
        else:
            keep(StepInfo(state.step, 9, state, METRICS, 1))
    assert step_reached(tmp_path / CHECKPOINT, ProbeRecipe) == 4
