"""A probe stage with a sweep inside a Ray Train worker: settings chosen on held-out training videos, then the probe."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from functools import partial

import numpy as np

from vjepa_exp.data.manifest import SPLITS, Manifest, read_entries
from vjepa_exp.evals.label_fraction import held_out_rows
from vjepa_exp.graph.draws import sweep_size
from vjepa_exp.graph.packs import probes_at_once
from vjepa_exp.graph.result import CHOSEN
from vjepa_exp.runtime.job import Outcome, StageJob, Throttle
from vjepa_exp.runtime.notice import heed_notices
from vjepa_exp.runtime.probe_batches import (
    Reading,
    held_out_source,
    labelled_videos,
    probe_recipe,
    read_batches,
    training_source,
)
from vjepa_exp.runtime.probe_job import probe_outcome
from vjepa_exp.runtime.starts import StartClock
from vjepa_exp.runtime.steps import StepReporter
from vjepa_exp.runtime.sweep_keep import SweepKeeper
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.stages import ProbeRecipe
from vjepa_exp.track.progress import Progress
from vjepa_exp.train.encoders import frozen_encoder
from vjepa_exp.train.hooks import every, log_metrics
from vjepa_exp.train.probe_data import Split, num_train_positions
from vjepa_exp.train.sweep import SweepState, sweep_probe
from vjepa_exp.train.sweep_passes import SweepData
from vjepa_exp.train.world import World

SWEEP = "sweep.json"
"""All candidates with their scores on the held-out videos, and the chosen settings."""


def run_sweep(job: StageJob, world: World, entered: float) -> Outcome:
    """Choose settings of a probe on held-out training videos, train it with them and test it.

    It goes on from its checkpoint where there is one.

    Raises:
        UserError: as `run_probes`, or no settings got a score.
        NodeLeaving: a node of the workers goes; what was trained is in the checkpoint.
    """
    heed_notices()
    recipe, execution = probe_recipe(job), job.execution
    train_split, test_split = (read_entries(job.manifests[recipe.probe.dataset], split) for split in SPLITS)
    labelled = labelled_videos(recipe, train_split)
    keeper = SweepKeeper(job, world, training_source(recipe, labelled).fingerprint)
    at_most = probes_at_once(recipe)  # of the recipe alone: rounds decide what is tried and stopped
    assert recipe.probe.sweep is not None
    candidates, rounds = sweep_size(recipe.probe.sweep, at_most)
    logged = keeper.state.step if len(keeper.state.tried) == candidates else 0  # only the last training is
    clock, due = StartClock(job, world, logged, entered), Throttle()

    def after_step(state: SweepState) -> None:
        clock.done()
        if (training := state.training) is not None and len(state.tried) < candidates and world.rank == 0 and due():
            done = rounds * len(state.tried) // candidates * training.last_step + state.step
            Progress("sweep step", done, rounds * training.last_step).write(job.folder)
        keeper.after_step(state, reporter)

    with closing(StepReporter(job, world, logged)) as reporter:
        found = sweep_probe(
            recipe,
            world,
            frozen_encoder(recipe, job.checkpoint),
            _sweep_data(job, world, recipe, labelled, test_split, clock),
            len(test_split.classes),
            at_most=at_most,
            micro_batch=execution.micro_batch,
            candidate_hooks=lambda number: [every(execution.log_every, log_metrics(world, lambda step, metrics: None))],
            hooks=[clock.done, *reporter.hooks],
            state=keeper.state,
            after_step=after_step,
        )
    outcome = probe_outcome(job, world, found.probe, test_split.classes)
    assert isinstance(outcome, Outcome)
    if world.rank == 0:
        tried = [vars(candidate) for candidate in found.tried]
        told = {"chosen": found.chosen.settings, "held_out": found.num_held_out, "tried": tried}
        (job.folder / SWEEP).write_text(json.dumps(told, indent=1), encoding="utf-8")
    numbers = {f"{CHOSEN}{name}": value for name, value in found.chosen.settings.items() if value is not None}
    counts = {"candidates": len(found.tried), "held_out_n": found.num_held_out, "held_out_top1": found.chosen.top1}
    return replace(outcome, metrics={**outcome.metrics, **counts, **numbers}, files=[*outcome.files, SWEEP])


def _sweep_data(
    job: StageJob, world: World, recipe: ProbeRecipe, labelled: Manifest, test: Manifest, clock: StartClock
) -> SweepData:
    sweep, reader = recipe.probe.sweep, job.execution.reader
    assert sweep is not None
    held_out = held_out_rows(labelled.column("label"), sweep.holdout, recipe.seed)
    if not len(held_out):
        raise UserError(f"{recipe.probe.dataset} has one labelled video a class: none can be held out for the sweep")
    fit = np.setdiff1d(np.arange(len(labelled)), held_out)
    sources = {
        "training": training_source(recipe, labelled, reader),
        "fitting": training_source(recipe, labelled.take(fit), reader),
        "held-out": held_out_source(recipe, labelled.take(held_out), reader, split="train", views=1),
        "test": held_out_source(recipe, test, reader),
    }

    def split(name: str, first: int = 0) -> Split:
        source = sources[name]
        trains = name in ("training", "fitting")
        positions = num_train_positions(recipe.probe, recipe.model, len(source)) if trains else len(source)
        [batches] = read_batches([job], world, Reading(source, positions, name, first))
        return Split(clock.watch(batches), len(source))

    return SweepData(
        train=partial(split, "training"),
        fit=partial(split, "fitting"),
        held_out=partial(split, "held-out"),
        is_held_out=lambda positions: np.isin(sources["training"].rows_at(positions), held_out),
        test=partial(split, "test"),
    )
