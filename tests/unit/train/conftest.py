"""Small recipes, and clips made in memory with the shapes and types of the data room."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from vjepa_exp.spec.augment import NoAugment
from vjepa_exp.spec.data import ClipSpec, DataSpec, MixtureEntry
from vjepa_exp.spec.evaluate import AttentiveProbe, ProbeOptimSpec
from vjepa_exp.spec.masks import MultiBlockMask
from vjepa_exp.spec.model import ModelSpec, PredictorSpec
from vjepa_exp.spec.pretrain import OptimSpec, PretrainSpec
from vjepa_exp.spec.stages import PretrainRecipe, ProbeRecipe
from vjepa_exp.train.batch import Batch
from vjepa_models.keyed_rng import keyed_rng

CLIP = ClipSpec(num_frames=4, frame_step=1, resolution=32)
MODEL = ModelSpec(
    arch="custom",
    embed_dim=24,
    depth=2,
    num_heads=2,
    mlp_ratio=2.0,
    patch_size=8,
    predictor=PredictorSpec(depth=1, embed_dim=12),
)


class Clips:
    """Position -> clip, a pure function: noise, brighter in the colour channel of its class (class 3 in none)."""

    def __init__(
        self, seed: int = 0, *, views: int = 1, num_videos: int | None = None, bad: tuple[int, ...] = ()
    ) -> None:
        self.seed, self.views, self.num_videos, self.bad = seed, views, num_videos, bad

    def load(self, positions: range) -> Batch:
        """The rows at these positions."""
        videos = [p % self.num_videos if self.num_videos else p for p in positions]
        return {
            "position": np.array(positions, dtype=np.int64),
            "clips": np.stack([self._clip(v) for v in videos]),
            "erased": np.zeros((len(videos), self.views, 4), dtype=np.int64),
            "label": np.array([v % 4 for v in videos], dtype=np.int64),
            "error": np.array(["truncated" if v in self.bad else "" for v in videos]),
            "path": np.array([f"{v}.mp4" for v in videos]),
        }

    def batches(self, first: int, last: int, size: int, rows: range | None = None) -> Iterator[Batch]:
        """Batches of `size` positions from `first` to before `last`, or some rows of each; the last may be short."""
        for start in range(first, last, size):
            inside = rows or range(min(size, last - start))
            yield self.load(range(start + inside.start, start + inside.stop))

    def _clip(self, video: int) -> np.ndarray:
        if video in self.bad:
            return np.zeros((self.views, 4, 32, 32, 3), dtype=np.uint8)
        noise = keyed_rng(self.seed, "test.clip", video).random((self.views, 4, 32, 32, 3)) * 80
        noise[..., video % 4 : video % 4 + 1] += 150
        return noise.astype(np.uint8)


@pytest.fixture(scope="session")
def clips() -> type[Clips]:
    """The maker of clips."""
    return Clips


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def recipe() -> PretrainRecipe:
    """Ten steps of eight clips in groups of four."""
    block = {"temporal_scale": (1.0, 1.0)}
    masks = (
        MultiBlockMask(kind="multi_block", num_blocks=2, spatial_scale=(0.2, 0.2), **block),
        MultiBlockMask(kind="multi_block", num_blocks=1, spatial_scale=(0.6, 0.6), **block),
    )
    optim = OptimSpec(
        batch_size=8, iterations=10, warmup=2, start_lr=1e-3, lr=2e-3, ema=0.9, clip_grad=0.5, clip_grad_after=3
    )
    data = DataSpec(mixture=(MixtureEntry(dataset="toy"),), clip=CLIP)
    spec = PretrainSpec(data=data, masks=masks, mask_group_size=4, optim=optim, precision="fp32")
    return PretrainRecipe(seed=7, model=MODEL, pretrain=spec, digests={"toy": "0"})


@pytest.fixture
def probe_recipe() -> ProbeRecipe:
    """Eight epochs on kept features of four classes."""
    probe = AttentiveProbe(
        kind="attentive_probe",
        dataset="toy",
        clip=CLIP,
        augment=NoAugment(),
        optim=ProbeOptimSpec(batch_size=8, epochs=8, lr=3e-3),
        precision="fp32",
    )
    return ProbeRecipe(seed=7, model=MODEL, encoder="random_init", probe=probe, digests={"toy": "0"})
