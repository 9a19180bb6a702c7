"""What a probe trains and is tested on, and what it leaves."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vjepa_exp.data.index import index
from vjepa_exp.data.manifest import Manifest
from vjepa_exp.evals.coverage import Coverage
from vjepa_exp.graph.stage import Stage
from vjepa_exp.runtime.job import Failure, StageJob
from vjepa_exp.runtime.probe_batches import held_out_source, training_source
from vjepa_exp.runtime.probe_job import PROBE, probe_outcome, run_probes
from vjepa_exp.runtime.probe_keep import diverged_before, marking
from vjepa_exp.runtime.slots import Slots
from vjepa_exp.spec.augment import Augment, ColorJitter, CropFlip, NoAugment, RandAugment, RandomErasing
from vjepa_exp.spec.data import ClipSpec
from vjepa_exp.spec.evaluate import AttentiveProbe
from vjepa_exp.spec.execution import ExecutionSpec
from vjepa_exp.spec.model import ModelSpec
from vjepa_exp.spec.stages import ProbeRecipe
from vjepa_exp.track.standing import FAILURE
from vjepa_exp.train.hooks import DivergedError
from vjepa_exp.train.joint import ProbeResult
from vjepa_exp.train.world import World
from vjepa_models.probes import LinearProbe

INFO: Any = None
STRONG = CropFlip(
    scale=(0.08, 0.5), policy=RandAugment(probability=1.0), jitter=ColorJitter(), erasing=RandomErasing(probability=1.0)
)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Six pictures of noise in each split."""
    for split in ("train", "val"):
        for i in range(6):
            path = tmp_path / split / "ab"[i % 2] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(i).integers(0, 256, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
    return index(tmp_path)


def recipe(augment: Augment, seed: int) -> ProbeRecipe:
    clip = ClipSpec(num_frames=4, frame_step=1, resolution=32)
    probe = AttentiveProbe(kind="attentive_probe", dataset="toy", clip=clip, views=3, augment=augment)
    return ProbeRecipe(seed=seed, model=ModelSpec(), encoder="random_init", probe=probe, digests={})


def test_the_test_is_never_augmented_and_the_training_is(manifest: Manifest) -> None:
    plain = held_out_source(recipe(NoAugment(), 0), manifest).load(np.arange(6))
    for seed in (0, 1):
        for epoch in (0, 6):
            tested = held_out_source(recipe(STRONG, seed), manifest).load(np.arange(epoch, epoch + 6))
            assert (tested["clips"] == plain["clips"]).all()
            assert (tested["path"] == plain["path"]).all()
            assert not tested["erased"].any()
    trained = training_source(recipe(STRONG, 0), manifest)
    epochs = [trained.load(np.arange(start, start + 6)) for start in (0, 6)]
    assert all((batch["erased"][..., 2] > 0).all() for batch in epochs)
    first, second = (batch["clips"][np.argsort(batch["path"])] for batch in epochs)
    assert all((a != b).any() for a, b in zip(first, second, strict=True))


def test_a_probe_that_fails_beside_others_says_so_in_its_folder(tmp_path: Path) -> None:
    stage = Stage("probe", "toy", recipe(NoAugment(), 0))
    job = StageJob(stage, "", tmp_path, tmp_path, {}, {}, None, ExecutionSpec(), Slots("cpu", 1, 1, 1, 1))
    outcome = probe_outcome(job, World(), DivergedError("training diverged at step 3"), ("a", "b"))
    assert outcome == Failure("training diverged at step 3", tmp_path / FAILURE)
    assert (tmp_path / FAILURE).read_text(encoding="utf-8") == "training diverged at step 3\n"


def test_the_next_attempt_of_a_run_leaves_out_what_diverged(tmp_path: Path) -> None:
    slots = Slots("cpu", 1, 1, 1, 1)
    stages = [Stage("probe", f"toy-{seed}", recipe(NoAugment(), seed)) for seed in (0, 1)]
    jobs = [StageJob(s, "", tmp_path, tmp_path / "ray", {}, {}, None, ExecutionSpec(), slots) for s in stages]
    assert diverged_before(jobs, World()) == ["", ""]

    def diverge(info: Any) -> None:
        raise DivergedError("the loss is nan")

    for kind, hook in ((DivergedError, diverge), (ZeroDivisionError, lambda info: 1 / 0)):
        with pytest.raises(kind):
            marking(jobs[kind is not DivergedError], World(), hook)(INFO)
    assert diverged_before(jobs, World()) == ["the loss is nan", ""]
    assert run_probes(jobs[:1], World(), 0.0) == [Failure("the loss is nan", tmp_path / FAILURE)]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file that is always full")
def test_a_full_disk_is_an_error_of_the_disk(tmp_path: Path) -> None:
    (tmp_path / PROBE).symlink_to("/dev/full")
    stage = Stage("probe", "toy", recipe(NoAugment(), 0))
    job = StageJob(stage, "", tmp_path, tmp_path, {}, {}, None, ExecutionSpec(), Slots("cpu", 1, 1, 1, 1))
    full = Coverage.of(6, [])
    result = ProbeResult({"top1": 50.0}, full, full, (), (50.0, None), LinearProbe(8, 2, 0))
    with pytest.raises(OSError, match="No space left") as caught:
        probe_outcome(job, World(), result, ("a", "b"))
    assert caught.value.errno == errno.ENOSPC
