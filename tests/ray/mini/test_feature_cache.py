"""Features kept in the store: the same scores, and later probes that need no video."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from vjepa_exp.graph.plan import Plan
from vjepa_exp.graph.result import StudyResult
from vjepa_exp.graph.store import Store
from vjepa_exp.runtime.runner import run
from vjepa_exp.spec.datasets import Registry

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(600)]


def test_probes_with_other_labels_and_seeds_need_no_video(
    make_plan: Callable[..., tuple[Plan, Registry]],
    make_store: Callable[..., Store],
    datasets_file: Path,
) -> None:
    def done(store: Store, fraction: float, seeds: list[int], *sets: str) -> tuple[Plan, StudyResult]:
        labels = (f"recipe.evaluate.clips.label_fraction={fraction}", f"recipe.evaluate.clips.seeds={seeds}")
        plan, registry = make_plan("baselines=[]", *labels, *sets)
        result = run(plan, store, registry, Console(quiet=True))
        assert result.complete, result.failed
        return plan, result

    plain, kept = make_store("plain", "pretrain"), make_store("kept", "pretrain")
    cached = "execution.cache_features=true"
    done(kept, 1.0, [3], cached)
    files = sorted(path.name for path in (kept.root / "features").glob("*.safetensors"))
    assert len(files) == 2  # of both splits
    videos, away = datasets_file.parent / "videos", datasets_file.parent / "away"
    videos.rename(away)
    try:
        plan, result = done(kept, 0.5, [4, 5], cached)
    finally:
        away.rename(videos)
    assert sorted(path.name for path in (kept.root / "features").glob("*.safetensors")) == files
    _, expected = done(plain, 0.5, [4, 5])
    probes = [stage for stage in plan.stages if stage.kind == "probe"]
    assert len(probes) == 2
    for stage in probes:
        mine, theirs = (one.records[stage.fingerprint] for one in (result, expected))
        assert mine.metrics == pytest.approx(theirs.metrics, rel=1e-4)
        assert mine.coverage == theirs.coverage == {"n": 9, "covered": 9, "train_n": 9, "train_covered": 9}
