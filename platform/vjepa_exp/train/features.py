"""Tokens of a frozen encoder: computed batch by batch, or once and kept where they are the same in every epoch.

Legend: B videos, V = segments x views (segment-major), R spatial views, N tokens of all segments of a view, D width.
"""

from collections.abc import Iterable
from itertools import repeat
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from vjepa_exp.evals.coverage import Unreadable
from vjepa_exp.evals.views import join_segments
from vjepa_exp.spec.augment import NoAugment
from vjepa_exp.spec.evaluate import ProbeSpec
from vjepa_exp.spec.model import ModelSpec
from vjepa_exp.spec.stages import ProbeRecipe
from vjepa_exp.train.batch import Batch, ClipBatch
from vjepa_exp.train.networks import encoder_config
from vjepa_exp.train.precision import autocast
from vjepa_exp.train.transfer import to_device
from vjepa_exp.train.world import World
from vjepa_models.encoder import VideoEncoder

CACHE_BYTES = 4 * 2**30
"""Features of a split up to this size are kept in memory."""
CLIPS_PER_PASS = 32


class Features(NamedTuple):
    """Readable videos: `position` [B], `tokens` [B, R, N, D], `label` [B]; and the unreadable ones."""

    position: Tensor
    tokens: Tensor
    label: Tensor
    unreadable: tuple[Unreadable, ...]


class FeatureExtractor:
    """Batches of clips to tokens, in the precision of the probe."""

    def __init__(
        self, encoder: VideoEncoder, recipe: ProbeRecipe, world: World, *, views: int, micro_batch: int | None
    ) -> None:
        probe = recipe.probe
        self.encoder = encoder
        self.seed = recipe.seed
        self.dataset = probe.dataset
        self.views = views
        self.segments = probe.clips
        self.device = world.device
        self.dtype = feature_dtype(probe)
        self.autocast = autocast(probe.precision, world.device)
        self.micro_batch = micro_batch or CLIPS_PER_PASS

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Features:
        """Encode the readable rows of a batch."""
        readable = batch["error"] == ""
        missed = (batch[name][~readable].tolist() for name in ("path", "error"))
        unreadable = map(Unreadable, *missed, repeat(self.dataset))
        if not readable.any():
            return self.nothing()._replace(unreadable=tuple(unreadable))
        clips = ClipBatch.of(batch, readable)
        parts = range(0, len(clips.frames), self.micro_batch)
        tokens = [self._encode(clips.part(start, start + self.micro_batch)) for start in parts]
        tokens_BVND = rearrange(torch.cat(tokens), "(b v) n d -> b v n d", b=int(readable.sum()))
        return Features(
            to_device(batch["position"][readable], self.device),
            join_segments(tokens_BVND, self.views),
            to_device(batch["label"][readable], self.device),
            tuple(unreadable),
        )

    def nothing(self) -> Features:
        """The features of no videos."""
        no_number = torch.empty(0, dtype=torch.int64, device=self.device)
        shape = (0, self.views, self.segments * self.encoder.config.num_tokens, self.encoder.config.embed_dim)
        return Features(no_number, torch.empty(shape, dtype=self.dtype, device=self.device), no_number, ())

    def _encode(self, clips: ClipBatch) -> Tensor:
        with self.autocast():
            tokens_BND = self.encoder(clips.on_device(self.device, self.encoder.config.num_frames, self.seed))
        return tokens_BND.to(self.dtype)


def feature_dtype(probe: ProbeSpec) -> torch.dtype:
    """Features are rounded alike whether they are kept or computed anew."""
    return torch.bfloat16 if probe.precision == "bf16" else torch.float32


def fits_in_memory(probe: ProbeSpec, model: ModelSpec, num_videos: int, views: int) -> bool:
    """Whether the features of so many videos are kept; a pure function of the recipe, the same on every worker."""
    config = encoder_config(model, probe.clip)
    values = num_videos * views * probe.clips * config.num_tokens * config.embed_dim
    return values * feature_dtype(probe).itemsize <= CACHE_BYTES


def keeps_training_features(probe: ProbeSpec, model: ModelSpec, num_videos: int) -> bool:
    """Whether one pass over the training clips serves all epochs: nothing is augmented and the features fit."""
    return isinstance(probe.augment, NoAugment) and fits_in_memory(probe, model, num_videos, views=1)


def reads_test_first(probe: ProbeSpec, model: ModelSpec, num_train: int, num_test: int) -> bool:
    """Whether test clips are read before training clips: their features are kept, those of training come and go."""
    if keeps_training_features(probe, model, num_train):
        return False
    return fits_in_memory(probe, model, num_test, probe.views)


def collect(extract: FeatureExtractor, batches: Iterable[Batch]) -> Features:
    """Features of all rows of this worker."""
    parts = [extract.nothing(), *(extract(batch) for batch in batches)]
    position, tokens, label = (torch.cat(column) for column in zip(*(part[:3] for part in parts), strict=True))
    return Features(position, tokens, label, tuple(one for part in parts for one in part.unreadable))


def share(features: Features, world: World) -> Features:
    """The features of all workers on every worker, in the global order."""
    position, tokens, label = (world.gather_rows(column) for column in features[:3])
    order = position.argsort()
    unreadable = tuple(one for worker in world.gather(features.unreadable) for one in worker)
    return Features(position[order], tokens[order], label[order], unreadable)
