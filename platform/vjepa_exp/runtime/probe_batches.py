"""What a probe stage reads: the videos of both splits as sources, and their batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from vjepa_exp.data.manifest import Manifest
from vjepa_exp.data.source import EvalSource
from vjepa_exp.evals.coverage import Coverage
from vjepa_exp.evals.label_fraction import labelled_rows
from vjepa_exp.runtime.job import StageJob, Throttle
from vjepa_exp.runtime.quarantine import require
from vjepa_exp.runtime.stream import Batch, Part, streams
from vjepa_exp.spec.augment import NoAugment
from vjepa_exp.spec.execution import ReaderChoice
from vjepa_exp.spec.stages import ProbeRecipe
from vjepa_exp.track.progress import Progress
from vjepa_exp.train.world import World


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


class Reading(NamedTuple):
    """The first positions of a source's order that are read, what to call them, and how many batches are left out."""

    source: EvalSource
    num_positions: int
    name: str
    first: int = 0


def read_batches(jobs: Sequence[StageJob], world: World, *readings: Reading) -> list[Iterator[Batch]]:
    """This worker's batches of each source, shown as progress while they are read; read them in turn, each to its end.

    Args:
        jobs: that want them.
        world: this worker among its equals.
        readings: what is read.
    """
    job, batch_size = jobs[0], probe_recipe(jobs[0]).probe.optim.batch_size
    parts = [
        Part(
            reading.source,
            job.rows(reading.num_positions, batch_size, world),
            job.stream_options(reading.source.row_bytes),
            reading.first,
        )
        for reading in readings
    ]
    return [_shown(jobs, world, *one, batch_size) for one in zip(readings, streams(parts), strict=True)]


def _shown(
    jobs: Sequence[StageJob], world: World, reading: Reading, batches: Iterator[Batch], batch_size: int
) -> Iterator[Batch]:
    due, seen = Throttle(), reading.first * batch_size
    for batch in batches:
        seen += len(batch["position"]) * world.size
        if world.rank == 0 and due():
            done = min(seen, reading.num_positions)
            for job in jobs:
                Progress(f"{reading.name} clip", done, reading.num_positions).write(job.folder)
        yield batch


def require_split(job: StageJob, coverage: Coverage, name: str) -> None:
    """Refuse to go on where too many videos of a split ('training', 'test') are unreadable; all are listed.

    Raises:
        UserError: they are too many.
    """
    where = f"{name} split of {probe_recipe(job).probe.dataset}"
    require(coverage, job.execution.max_unreadable, where, job.folder)
