"""A probe stage inside a Ray Train worker: frozen encoder, streams of both splits, training, test."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing

import torch

from vjepa_exp.data.manifest import SPLITS, Manifest, read_entries
from vjepa_exp.data.source import EvalSource
from vjepa_exp.evals.coverage import Coverage
from vjepa_exp.evals.label_fraction import labelled_rows
from vjepa_exp.runtime.job import Outcome, Progress, StageJob, Throttle
from vjepa_exp.runtime.quarantine import require, write_quarantine
from vjepa_exp.runtime.starts import StartClock
from vjepa_exp.runtime.steps import StepReporter
from vjepa_exp.runtime.stream import Batch, stream
from vjepa_exp.spec.augment import NoAugment
from vjepa_exp.spec.execution import ReaderChoice
from vjepa_exp.spec.stages import ProbeRecipe
from vjepa_exp.track.journal import JOURNAL
from vjepa_exp.track.starts import STARTS
from vjepa_exp.train.encoders import frozen_encoder
from vjepa_exp.train.probe import ProbeResult, train_probe
from vjepa_exp.train.probe_data import Split, num_train_positions
from vjepa_exp.train.world import World

PROBE = "probe.pt"
BY_CLASS = "top1_by_class.json"


def run_probe(job: StageJob, world: World, entered: float) -> Outcome:
    """Train a probe and test it.

    Raises:
        UserError: data or checkpoint do not fit, or too many videos are unreadable.
    """
    recipe = job.stage.recipe
    assert isinstance(recipe, ProbeRecipe)
    train_split, test_split = (read_entries(job.manifests[recipe.probe.dataset], split) for split in SPLITS)
    reader = job.execution.reader
    train, test = training_source(recipe, train_split, reader), held_out_source(recipe, test_split, reader)
    positions = num_train_positions(recipe.probe, recipe.model, len(train))
    clock = StartClock(job, world, 0, entered)
    with closing(StepReporter(job, world)) as reporter:
        result = train_probe(
            recipe,
            world,
            frozen_encoder(recipe, job.checkpoint),
            Split(clock.watch(_batches(job, world, train, positions, "training clip")), len(train)),
            Split(_batches(job, world, test, len(test), "test clip"), len(test)),
            len(test_split.classes),
            micro_batch=job.execution.micro_batch,
            hooks=[clock.done, *reporter.hooks],
        )
    for coverage, split in ((result.coverage, "test"), (result.train_coverage, "training")):
        require(coverage, job.execution.max_unreadable, f"{split} split of {recipe.probe.dataset}", job.folder)
    return _outcome(job, world, result, test_split.classes)


def training_source(recipe: ProbeRecipe, manifest: Manifest, reader: ReaderChoice = "auto") -> EvalSource:
    """The labelled share of the training split, augmented as the recipe says, shuffled."""
    spec = recipe.probe
    split = manifest.subset("train")
    labelled = split.take(labelled_rows(split.column("label"), spec.label_fraction, recipe.seed))
    return EvalSource(
        labelled,
        "train",
        clip=spec.clip,
        clips=spec.clips,
        views=1,
        augment=spec.augment,
        seed=recipe.seed,
        shuffle=True,
        reader=reader,
    )


def held_out_source(recipe: ProbeRecipe, manifest: Manifest, reader: ReaderChoice = "auto") -> EvalSource:
    """The test split as it stands: nothing is drawn for it."""
    spec = recipe.probe
    return EvalSource(
        manifest,
        "val",
        clip=spec.clip,
        clips=spec.clips,
        views=spec.views,
        augment=NoAugment(),
        seed=recipe.seed,
        shuffle=False,
        reader=reader,
    )


def _batches(job: StageJob, world: World, source: EvalSource, num_positions: int, phase: str) -> Iterator[Batch]:
    """This worker's batches of the first positions of a source, shown as progress while they are read."""
    recipe = job.stage.recipe
    assert isinstance(recipe, ProbeRecipe)
    spec, due, seen = recipe.probe, Throttle(), 0
    rows = job.rows(num_positions, spec.optim.batch_size, world)
    for batch in stream(source, rows, job.stream_options(source.row_bytes)):
        seen += len(batch["position"]) * world.size
        if world.rank == 0 and due():
            Progress(phase, min(seen, num_positions), num_positions).write(job.folder)
        yield batch


def _outcome(job: StageJob, world: World, result: ProbeResult, classes: Sequence[str]) -> Outcome:
    files = [PROBE, BY_CLASS, JOURNAL, STARTS]
    tested, trained = result.coverage, result.train_coverage
    missed = Coverage.of(tested.total + trained.total, [*tested.unreadable, *trained.unreadable])
    if world.rank == 0:
        torch.save(result.probe.state_dict(), job.folder / PROBE)
        by_class = dict(zip(classes, result.top1_by_class, strict=True))
        (job.folder / BY_CLASS).write_text(json.dumps(by_class, ensure_ascii=False, indent=1), encoding="utf-8")
        files += write_quarantine(job.folder, missed.unreadable)
    return Outcome(
        metrics=result.metrics,
        coverage={
            "n": tested.total,
            "covered": tested.covered,
            "train_n": trained.total,
            "train_covered": trained.covered,
        },
        files=files,
        unreadable=missed.by_reason(),
    )
