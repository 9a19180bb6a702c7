"""Probe stages inside a Ray Train worker: frozen encoder, streams of both splits, training, test."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from typing import Literal

import torch

from vjepa_exp.data.manifest import SPLITS, Manifest, read_entries
from vjepa_exp.data.source import EvalSource
from vjepa_exp.evals.coverage import Coverage
from vjepa_exp.evals.label_fraction import labelled_rows
from vjepa_exp.runtime.job import Failure, Outcome, Progress, StageJob, Throttle
from vjepa_exp.runtime.quarantine import require, write_quarantine
from vjepa_exp.runtime.starts import StartClock
from vjepa_exp.runtime.steps import StepReporter
from vjepa_exp.runtime.stream import Batch, stream
from vjepa_exp.spec.augment import NoAugment
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.execution import ReaderChoice
from vjepa_exp.spec.stages import ProbeRecipe
from vjepa_exp.track.journal import JOURNAL
from vjepa_exp.track.starts import STARTS
from vjepa_exp.train.encoders import frozen_encoder
from vjepa_exp.train.probe import ProbeResult, train_probes
from vjepa_exp.train.probe_data import Split, num_train_positions
from vjepa_exp.train.world import World

PROBE = "probe.pt"
BY_CLASS = "top1_by_class.json"


def run_probes(jobs: Sequence[StageJob], world: World, entered: float) -> list[Outcome | Failure]:
    """Train probes that want the same tokens, and test them.

    Args:
        jobs: as `graph.packs` puts them together; their recipes differ in nothing that changes tokens or batches.
        world: this worker among its equals.
        entered: when (seconds since 1970) this process took them up.

    Returns:
        For each job what it yields, or why it alone failed.

    Raises:
        UserError: data or checkpoint do not fit, or too many videos are unreadable.
    """
    recipes, first = [probe_recipe(job) for job in jobs], jobs[0]
    shared, execution = recipes[0], first.execution
    train_split, test_split = (read_entries(first.manifests[shared.probe.dataset], split) for split in SPLITS)
    train = training_source(shared, labelled_videos(shared, train_split), execution.reader)
    test = held_out_source(shared, test_split, execution.reader)
    clocks = [StartClock(job, world, 0, entered) for job in jobs]
    positions = num_train_positions(shared.probe, shared.model, len(train))
    train_batches = read_batches(jobs, world, train, positions, "training")
    for clock in clocks:
        train_batches = clock.watch(train_batches)
    with ExitStack() as open_reporters:
        reporters = [open_reporters.enter_context(closing(StepReporter(job, world))) for job in jobs]
        results = train_probes(
            recipes,
            world,
            frozen_encoder(shared, first.checkpoint),
            Split(train_batches, len(train)),
            Split(read_batches(jobs, world, test, len(test), "test"), len(test)),
            len(test_split.classes),
            micro_batch=execution.micro_batch,
            hooks=[[clock.done, *reporter.hooks] for clock, reporter in zip(clocks, reporters, strict=True)],
        )
    return [probe_outcome(job, world, one, test_split.classes) for job, one in zip(jobs, results, strict=True)]


def labelled_videos(recipe: ProbeRecipe, manifest: Manifest) -> Manifest:
    """The labelled share of the training split."""
    split = manifest.subset("train")
    return split.take(labelled_rows(split.column("label"), recipe.probe.label_fraction, recipe.seed))


def training_source(recipe: ProbeRecipe, labelled: Manifest, reader: ReaderChoice = "auto") -> EvalSource:
    """Training videos, augmented as the recipe says, shuffled."""
    spec = recipe.probe
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


def held_out_source(
    recipe: ProbeRecipe,
    manifest: Manifest,
    reader: ReaderChoice = "auto",
    *,
    split: Literal["train", "val"] = "val",
    views: int | None = None,
) -> EvalSource:
    """The test split, or held-out training videos, as they stand: nothing is drawn for them."""
    spec = recipe.probe
    return EvalSource(
        manifest,
        split,
        clip=spec.clip,
        clips=spec.clips,
        views=views or spec.views,
        augment=NoAugment(),
        seed=recipe.seed,
        shuffle=False,
        reader=reader,
    )


def probe_recipe(job: StageJob) -> ProbeRecipe:
    """The recipe of a probe stage."""
    assert isinstance(job.stage.recipe, ProbeRecipe)
    return job.stage.recipe


def read_batches(
    jobs: Sequence[StageJob], world: World, source: EvalSource, num_positions: int, split: str
) -> Iterator[Batch]:
    """This worker's batches of the first positions of a source, shown as progress while they are read."""
    first, due, seen = jobs[0], Throttle(), 0
    rows = first.rows(num_positions, probe_recipe(first).probe.optim.batch_size, world)
    for batch in stream(source, rows, first.stream_options(source.row_bytes)):
        seen += len(batch["position"]) * world.size
        if world.rank == 0 and due():
            for job in jobs:
                Progress(f"{split} clip", min(seen, num_positions), num_positions).write(job.folder)
        yield batch


def probe_outcome(
    job: StageJob, world: World, result: ProbeResult | UserError, classes: Sequence[str]
) -> Outcome | Failure:
    """What a trained and tested probe yields, its files written.

    Raises:
        UserError: too many videos are unreadable.
    """
    if isinstance(result, UserError):
        return Failure(str(result))
    tested, trained = result.coverage, result.train_coverage
    for coverage, split in ((tested, "test"), (trained, "training")):
        where = f"{split} split of {probe_recipe(job).probe.dataset}"
        require(coverage, job.execution.max_unreadable, where, job.folder)
    files = [PROBE, BY_CLASS, JOURNAL, STARTS]
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
