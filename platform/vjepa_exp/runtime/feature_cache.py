"""Features of clips that are not augmented, kept in the store: the next probe on the same encoder needs no pass of it.

They belong to the encoder, the data set, the clips and the precision; label fractions, seeds, batches and optimisers of
probes do not enter. A file holds all readable videos of a split in the order of its manifest.
"""

from __future__ import annotations

import fcntl
import json
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from vjepa_exp.data.manifest import Manifest
from vjepa_exp.data.source import EvalSource
from vjepa_exp.evals.coverage import Coverage, Unreadable
from vjepa_exp.graph.stage import Stage, digest
from vjepa_exp.runtime.job import StageJob
from vjepa_exp.runtime.probe_batches import Reading, held_out_source, probe_recipe, read_batches, require_split
from vjepa_exp.spec.augment import NoAugment
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.stages import ProbeRecipe
from vjepa_exp.train.features import FeatureExtractor, Features, collect, fits_in_memory, share
from vjepa_exp.train.probe_score import HeldOut
from vjepa_exp.train.world import World
from vjepa_models.encoder import VideoEncoder

FORMAT = 2
"""Raised when the same clips start to have other features."""

PASSING = ("open", "timeout", "crash")
"""How the reason of a video begins that may be readable the next time: its disk was away, the machine was busy."""
WAIT_S = 0.5

Split = Literal["train", "val"]

log = logging.getLogger(__name__)


def uses_cache(job: StageJob, num_train: int, num_test: int) -> bool:
    """Whether features of this stage are to be kept: wanted, the same in every epoch, and small enough."""
    recipe = probe_recipe(job)
    spec = recipe.probe
    return (
        job.features is not None
        and isinstance(spec.augment, NoAugment)
        and fits_in_memory(spec, recipe.model, num_train, views=1)
        and fits_in_memory(spec, recipe.model, num_test, spec.views)
    )


def stored_features(
    jobs: Sequence[StageJob], world: World, encoder: VideoEncoder, manifest: Manifest, split: Split
) -> Features:
    """Features of every readable video of a split on every worker, computed if nobody has yet.

    Raises:
        UserError: the file that holds them is damaged, the videos are not to be had, or too many are unreadable.
    """
    job, recipe = jobs[0], probe_recipe(jobs[0])
    assert job.features is not None
    views = recipe.probe.views if split == "val" else 1
    file = job.features / f"{features_name(job.stage, split, views)}.safetensors"
    with _one_at_a_time(file, world):
        if world.gather(file.is_file())[0]:
            return read_features(file, world.device)
        source = held_out_source(recipe, manifest, job.execution.reader, split=split, views=views)
        name = "test" if split == "val" else "training"
        extract = FeatureExtractor(encoder, recipe, world, views=views, micro_batch=job.execution.micro_batch)
        [batches] = read_batches(jobs, world, Reading(source, len(source), name))
        features = share(collect(extract, batches), world)
        require_split(job, Coverage.of(len(source), features.unreadable), name)
        if world.rank == 0 and not passing(features.unreadable, manifest):
            write_features(file, features)
        return features


def passing(unreadable: Iterable[Unreadable], manifest: Manifest) -> list[Unreadable]:
    """Those that may be readable the next time, as they were when their manifest was made."""
    known = {path for path, _ in manifest.unreadable()}
    return [one for one in unreadable if one.path not in known and one.reason.startswith(PASSING)]


def in_order_of(features: Features, source: EvalSource, labelled: NDArray[np.int64]) -> Features:
    """The labelled part of a training split as the positions of a source have it.

    Args:
        features: of the whole split, by row.
        source: of the labelled videos; its first epoch gives the order.
        labelled: their rows in the split.

    Raises:
        UserError: none of them can be read.
    """
    rows = labelled[source.rows_at(np.arange(len(source)))]
    place = {row: i for i, row in enumerate(features.position.tolist())}
    readable = [(position, place[row]) for position, row in enumerate(rows.tolist()) if row in place]
    if not readable:
        raise UserError("no labelled training video can be read")
    position, chosen = (torch.tensor(column, device=features.position.device) for column in zip(*readable, strict=True))
    mine = source.paths if features.unreadable else ()
    unreadable = tuple(one for one in features.unreadable if one.path in mine)
    return Features(position, features.tokens[chosen], features.label[chosen], unreadable)


def my_share(features: Features, world: World) -> HeldOut:
    """This worker's videos of a split that every worker holds; the unreadable ones count once."""
    mine = world.rows(len(features.position))
    rows = slice(mine.start, mine.stop)
    unreadable = features.unreadable if world.rank == 0 else ()
    part = Features(features.position[rows], features.tokens[rows], features.label[rows], unreadable)
    return HeldOut([part], len(features.position) + len(features.unreadable))


def features_name(stage: Stage, split: Split, views: int) -> str:
    """A digest of what features depend on, the data set's name included: demo sets of one family share their digest."""
    recipe, pretrain = stage.recipe, stage.input("pretrain")
    assert isinstance(recipe, ProbeRecipe)
    spec = recipe.probe
    return digest(
        {
            "format": FORMAT,
            "encoder": pretrain.fingerprint if pretrain else {"model": recipe.model.model_dump(), "seed": recipe.seed},
            "dataset": spec.dataset,
            "data": recipe.digests[spec.dataset],
            "split": split,
            "clip": spec.clip.model_dump(),
            "clips": spec.clips,
            "views": views,
            "precision": spec.precision,
        }
    )


@contextmanager
def _one_at_a_time(file: Path, world: World) -> Iterator[None]:
    """Stages that want the same features wait for the first one; the lock goes with its process.

    All workers ask again and again together: one that waits for another longer than its process group allows is lost.
    """
    with ExitStack() as held:
        lock = None
        if world.rank == 0:
            file.parent.mkdir(parents=True, exist_ok=True)
            lock = held.enter_context(file.with_suffix(".lock").open("w"))
        while not world.gather(lock is not None and _taken(lock))[0]:
            time.sleep(WAIT_S)
        yield


def _taken(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write_features(file: Path, features: Features) -> None:
    """Put features into a file; where the disk is full that fails with a warning, and the next stage computes them."""
    aside = file.with_suffix(".part")
    tensors = {"position": features.position, "tokens": features.tokens, "label": features.label}
    told = json.dumps([asdict(one) for one in features.unreadable])
    try:
        save_file({name: one.cpu().contiguous() for name, one in tensors.items()}, aside, {"unreadable": told})
        aside.replace(file)
    except (OSError, SafetensorError) as error:
        aside.unlink(missing_ok=True)
        log.warning("%s: features are not kept: %s", file, error)


def read_features(file: Path, device: torch.device) -> Features:
    """Features from a file.

    Raises:
        UserError: it is damaged.
    """
    try:
        with safe_open(file, "pt", device=str(device)) as stored:
            told = [Unreadable(**one) for one in json.loads(stored.metadata()["unreadable"])]
            position, tokens, label = (stored.get_tensor(name) for name in ("position", "tokens", "label"))
            return Features(position, tokens, label, tuple(told))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"kept features {file} cannot be read ({error}): delete the file") from None
