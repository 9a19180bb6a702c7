"""What a probe is trained and tested on: tokens kept from one pass over the clips, or computed as the clips come.

Legend: B videos, R spatial views, N tokens of all segments of a view, D width.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from typing import NamedTuple

import numpy as np

from vjepa_exp.evals.coverage import Coverage, Unreadable
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.evaluate import ProbeSpec
from vjepa_exp.spec.model import ModelSpec
from vjepa_exp.spec.stages import ProbeRecipe
from vjepa_exp.train.batch import Batch
from vjepa_exp.train.features import FeatureExtractor, Features, collect, fits_in_memory, keeps_training_features, share
from vjepa_exp.train.probe_step import TokenBatch
from vjepa_exp.train.transfer import to_device
from vjepa_exp.train.world import World
from vjepa_models.encoder import VideoEncoder
from vjepa_models.keyed_rng import keyed_rng


class Split(NamedTuple):
    """This worker's batches of a split, and how many videos the split has over all workers."""

    batches: Iterable[Batch]
    num_videos: int


@dataclass
class TrainingTokens:
    """The batches of all epochs but the `first` ones; `unreadable` fills up on this worker as they are drawn.

    Where features are kept `readable` tells the videos that have some: the batches depend on them.
    """

    batches: Iterator[TokenBatch]
    steps_per_epoch: int
    num_videos: int
    unreadable: set[Unreadable]
    first: int = 0
    readable: str = ""

    def coverage(self, world: World) -> Coverage:
        """How much of the training split was read, over all workers."""
        return Coverage.of(self.num_videos, set().union(*world.gather(self.unreadable)))


def num_train_positions(probe: ProbeSpec, model: ModelSpec, num_videos: int) -> int:
    """How many positions of the training order the stream must hold.

    One pass over the split where features are kept; otherwise the whole batches of all epochs, one after the other.
    """
    if keeps_training_features(probe, model, num_videos):
        return num_videos
    return probe.optim.epochs * steps_per_epoch(probe, num_videos) * probe.optim.batch_size


def steps_per_epoch(probe: ProbeSpec, num_videos: int) -> int:
    """Whole batches in one pass over the split, at least one."""
    return max(1, num_videos // probe.optim.batch_size)


def training_tokens(
    recipe: ProbeRecipe, encoder: VideoEncoder, train: Split, world: World, micro_batch: int | None, first: int = 0
) -> TrainingTokens:
    """Batches of tokens for all epochs but the `first` ones, which are missing in `train` where none are kept.

    Raises:
        UserError: no training video can be read, or there are more workers than rows of a batch.
    """
    spec = recipe.probe
    if not keeps_training_features(spec, recipe.model, train.num_videos):
        extract = FeatureExtractor(encoder, recipe, world, views=1, micro_batch=micro_batch)
        seen: set[Unreadable] = set()
        rows = world.batch_rows(spec.optim.batch_size)
        batches = _streamed(extract, train.batches, rows, spec.optim.batch_size, seen, first)
        return TrainingTokens(batches, steps_per_epoch(spec, train.num_videos), train.num_videos, seen, first)
    return kept_tokens(recipe, kept_features(recipe, encoder, train, world, micro_batch), world, first)


def kept_features(
    recipe: ProbeRecipe, encoder: VideoEncoder, train: Split, world: World, micro_batch: int | None
) -> Features:
    """Features of all training videos, on every worker.

    Raises:
        UserError: no training video can be read.
    """
    extract = FeatureExtractor(encoder, recipe, world, views=1, micro_batch=micro_batch)
    kept = share(collect(extract, train.batches), world)
    if len(kept.position) + len(kept.unreadable) != train.num_videos:
        raise RuntimeError(f"{len(kept.position) + len(kept.unreadable)} training rows came, not {train.num_videos}")
    if len(kept.position) == 0:
        raise UserError(f"no training video of {recipe.probe.dataset} can be read")
    return kept


def kept_tokens(recipe: ProbeRecipe, kept: Features, world: World, first: int = 0) -> TrainingTokens:
    """Batches of all epochs but the `first` ones from kept features."""
    spec = recipe.probe
    batches = _kept(kept, spec.optim.batch_size, recipe.seed, world, first)
    steps, num_videos = steps_per_epoch(spec, len(kept.position)), len(kept.position) + len(kept.unreadable)
    which = sha256(kept.position.cpu().numpy().tobytes()).hexdigest()[:8]
    readable = f"{len(kept.position)} of {num_videos} videos ({which})"
    return TrainingTokens(batches, steps, num_videos, set(kept.unreadable), first, readable)


def held_out_tokens(
    recipe: ProbeRecipe, encoder: VideoEncoder, test: Split, world: World, micro_batch: int | None
) -> list[Features] | Iterator[Features]:
    """Features of this worker's test videos: a list if they are kept, else an iterator that can be used once."""
    spec = recipe.probe
    extract = FeatureExtractor(encoder, recipe, world, views=spec.views, micro_batch=micro_batch)
    parts = map(extract, test.batches)
    return list(parts) if fits_in_memory(spec, recipe.model, test.num_videos, spec.views) else parts


def _kept(features: Features, batch_size: int, seed: int, world: World, first: int) -> Iterator[TokenBatch]:
    """Whole batches of the kept videos, every epoch in another order; each worker draws its slice of a batch."""
    num_videos = len(features.position)
    size = min(batch_size, num_videos)
    rows = world.rows(size)
    first_epoch, done = divmod(first, num_videos // size)
    for epoch in count(first_epoch):
        score = keyed_rng(seed, "probe.order", epoch).random(num_videos)
        order = to_device(np.argsort(score, kind="stable"), world.device)
        for start in range(done * size if epoch == first_epoch else 0, num_videos - size + 1, size):
            chosen = order[start + rows.start : start + rows.stop]
            yield TokenBatch(features.tokens[chosen, 0], features.label[chosen], size)


def _streamed(
    extract: FeatureExtractor,
    batches: Iterable[Batch],
    rows: range,
    batch_size: int,
    unreadable: set[Unreadable],
    first: int,
) -> Iterator[TokenBatch]:
    """Batches as they come; what cannot be read is noted and left out."""
    for step, batch in enumerate(batches, first):
        expected = range(step * batch_size + rows.start, step * batch_size + rows.stop)
        if batch["position"].tolist() != list(expected):
            raise RuntimeError(f"probe step {step + 1} expects positions {expected}, not {batch['position'].tolist()}")
        features = extract(batch)
        unreadable.update(features.unreadable)
        yield TokenBatch(features.tokens[:, 0], features.label, batch_size)
