"""What a probe stage reads: the videos of both splits as sources, and their batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from vjepa_exp.data.manifest import Manifest
from vjepa_exp.data.source import EvalSource
from vjepa_exp.evals.coverage import Coverage
from vjepa_exp.evals.label_fraction import labelled_rows
from vjepa_exp.runtime.job import StageJob, Throttle
from vjepa_exp.runtime.quarantine import require
from vjepa_exp.runtime.stream import Batch, stream
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


def read_batches(
    jobs: Sequence[StageJob], world: World, source: EvalSource, num_positions: int, split: str, first: int = 0
) -> Iterator[Batch]:
    """This worker's batches of the first positions of a source, shown as progress while they are read.

    Args:
        jobs: that want them.
        world: this worker among its equals.
        source: of the split.
        num_positions: of its order.
        split: what to call it.
        first: batches that are left out.
    """
    job, due, batch_size = jobs[0], Throttle(), probe_recipe(jobs[0]).probe.optim.batch_size
    rows, seen = job.rows(num_positions, batch_size, world), first * batch_size
    for batch in stream(source, rows, job.stream_options(source.row_bytes), first):
        seen += len(batch["position"]) * world.size
        if world.rank == 0 and due():
            for one in jobs:
                Progress(f"{split} clip", min(seen, num_positions), num_positions).write(one.folder)
        yield batch


def require_split(job: StageJob, coverage: Coverage, name: str) -> None:
    """Refuse to go on where too many videos of a split ('training', 'test') are unreadable; all are listed.

    Raises:
        UserError: they are too many.
    """
    where = f"{name} split of {probe_recipe(job).probe.dataset}"
    require(coverage, job.execution.max_unreadable, where, job.folder)
