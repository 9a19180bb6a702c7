"""Probe stages inside a Ray Train worker: frozen encoder, streams of both splits, training, test."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from io import BytesIO

import torch

from vjepa_exp.data.manifest import SPLITS, read_entries
from vjepa_exp.data.source import EvalSource
from vjepa_exp.evals.coverage import Coverage
from vjepa_exp.evals.label_fraction import labelled_rows
from vjepa_exp.runtime.feature_cache import in_order_of, my_share, stored_features, uses_cache
from vjepa_exp.runtime.job import Failure, Outcome, StageJob
from vjepa_exp.runtime.notice import heed_notices
from vjepa_exp.runtime.probe_batches import (
    Reading,
    held_out_source,
    labelled_videos,
    probe_recipe,
    read_batches,
    require_split,
    training_source,
)
from vjepa_exp.runtime.probe_keep import ProbeKeeper, diverged_before, marking
from vjepa_exp.runtime.quarantine import write_quarantine
from vjepa_exp.runtime.starts import StartClock
from vjepa_exp.runtime.steps import StepReporter
from vjepa_exp.runtime.stream import Batch
from vjepa_exp.track.journal import JOURNAL
from vjepa_exp.track.standing import FAILURE
from vjepa_exp.track.starts import STARTS
from vjepa_exp.train.encoders import frozen_encoder
from vjepa_exp.train.features import keeps_training_features, reads_test_first
from vjepa_exp.train.hooks import DivergedError
from vjepa_exp.train.joint import ProbeResult
from vjepa_exp.train.probe import train_on_tokens, train_probes
from vjepa_exp.train.probe_data import Split, kept_tokens, num_train_positions
from vjepa_exp.train.world import World

PROBE = "probe.pt"
BY_CLASS = "top1_by_class.json"


def run_probes(jobs: Sequence[StageJob], world: World, entered: float) -> list[Outcome | Failure]:
    """Train probes that want the same tokens, from their checkpoints where there are some, and test them.

    Args:
        jobs: as `graph.packs` puts them together; their recipes differ in nothing that changes tokens or batches.
        world: this worker among its equals.
        entered: when (seconds since 1970) this process took them up.

    Returns:
        For each job what it yields, or why it alone failed.

    Raises:
        UserError: data or checkpoint do not fit, or too many videos are unreadable.
        NodeLeaving: a node of the workers goes; what was trained is in the checkpoints.
    """
    ended = diverged_before(jobs, world)
    left = [job for job, reason in zip(jobs, ended, strict=True) if not reason]
    done = iter(_run(left, world, entered) if left else ())
    return [_diverged(job, world, reason) if reason else next(done) for job, reason in zip(jobs, ended, strict=True)]


def _run(jobs: Sequence[StageJob], world: World, entered: float) -> list[Outcome | Failure]:
    heed_notices()
    recipes, first = [probe_recipe(job) for job in jobs], jobs[0]
    shared, execution = recipes[0], first.execution
    train_split, test_split = (read_entries(first.manifests[shared.probe.dataset], split) for split in SPLITS)
    train = training_source(shared, labelled_videos(shared, train_split), execution.reader)
    keeper = ProbeKeeper(jobs, world, train.fingerprint, len(train))
    steps = list(zip(jobs, keeper.steps, strict=True))
    clocks = [StartClock(job, world, step, entered) for job, step in steps]

    def watched(batches: Iterable[Batch]) -> Iterable[Batch]:
        for clock in clocks:
            batches = clock.watch(batches)
        return batches

    encoder, num_classes = frozen_encoder(shared, first.checkpoint).to(world.device), len(test_split.classes)
    with ExitStack() as open_reporters:
        reporters = [open_reporters.enter_context(closing(StepReporter(job, world, step))) for job, step in steps]
        hooks = [
            [clock.done, *(marking(job, world, hook) for hook in reporter.hooks), keeper.hook(job, reporter)]
            for job, clock, reporter in zip(jobs, clocks, reporters, strict=True)
        ]
        if uses_cache(first, len(train_split), len(test_split)):
            labelled = labelled_rows(train_split.column("label"), shared.probe.label_fraction, shared.seed)
            known = stored_features(jobs, world, encoder, train_split, "train")
            kept = in_order_of(known, train, labelled)
            held_out = my_share(stored_features(jobs, world, encoder, test_split, "val"), world)
            list(watched([{}]))  # nothing more is waited for
            tokens = kept_tokens(shared, kept, world, keeper.first)
            results = train_on_tokens(
                recipes, world, encoder, tokens, held_out, num_classes, hooks, resume=keeper.resume
            )
        else:
            test = held_out_source(shared, test_split, execution.reader)
            training, testing = _read(jobs, world, train, test, keeper.first)
            results = train_probes(
                recipes,
                world,
                encoder,
                Split(watched(training), len(train)),
                Split(testing, len(test)),
                num_classes,
                micro_batch=execution.micro_batch,
                hooks=hooks,
                resume=keeper.resume,
                first=keeper.first,
            )
    return [probe_outcome(job, world, one, test_split.classes) for job, one in zip(jobs, results, strict=True)]


def _read(
    jobs: Sequence[StageJob], world: World, train: EvalSource, test: EvalSource, first: int
) -> tuple[Iterator[Batch], Iterator[Batch]]:
    """Batches of training and test, in the order in which `train_probes` wants them."""
    recipe = probe_recipe(jobs[0])
    kept = keeps_training_features(recipe.probe, recipe.model, len(train))
    positions = num_train_positions(recipe.probe, recipe.model, len(train))
    both = [Reading(train, positions, "training", 0 if kept else first), Reading(test, len(test), "test")]
    if reads_test_first(recipe.probe, recipe.model, len(train), len(test)):
        testing, training = read_batches(jobs, world, *reversed(both))
    else:
        training, testing = read_batches(jobs, world, *both)
    return training, testing


def probe_outcome(
    job: StageJob, world: World, result: ProbeResult | DivergedError, classes: Sequence[str]
) -> Outcome | Failure:
    """What a trained and tested probe yields, its files written.

    Raises:
        UserError: too many videos are unreadable.
    """
    if isinstance(result, DivergedError):
        return _diverged(job, world, str(result))
    tested, trained = result.coverage, result.train_coverage
    require_split(job, tested, "test")
    require_split(job, trained, "training")
    files = [PROBE, BY_CLASS, JOURNAL, STARTS]
    missed = Coverage.of(tested.total + trained.total, [*tested.unreadable, *trained.unreadable])
    if world.rank == 0:
        weights = BytesIO()  # torch tells a full disk as a fault of its own
        torch.save(result.probe.state_dict(), weights)
        (job.folder / PROBE).write_bytes(weights.getbuffer())
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


def _diverged(job: StageJob, world: World, reason: str) -> Failure:
    log = job.folder / FAILURE
    if world.rank == 0:
        log.write_text(f"{reason}\n", encoding="utf-8")
    return Failure(reason, log)
