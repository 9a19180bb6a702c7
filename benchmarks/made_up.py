"""Clips of noise from a small pool: as many bytes as real ones, no decoding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vjepa_exp.spec.data import ClipSpec

POOL = 4


@dataclass(frozen=True)
class MadeUp:
    """Rows as the pretraining source gives them, of clips of one shape [V, T, H, W, 3]."""

    shape: tuple[int, ...]

    @classmethod
    def of(cls, clip: ClipSpec) -> MadeUp:
        """For clips of these sizes, one a video."""
        return cls((1, clip.num_frames, clip.resolution, clip.resolution, 3))

    def load(self, positions: np.ndarray) -> dict[str, Any]:
        """Columns for these positions."""
        pool = np.random.default_rng(0).integers(0, 256, (POOL, *self.shape), dtype=np.uint8)
        blank = np.full(len(positions), "")
        return {
            "position": positions,
            "clips": pool[positions % POOL],
            "erased": np.zeros((len(positions), self.shape[0], 4), np.int64),
            "label": np.zeros(len(positions), np.int64),
            "path": blank,
            "error": blank,
            "skipped": blank,
        }
