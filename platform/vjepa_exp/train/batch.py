"""Batches as the data room delivers them, and their way onto the device.

Legend: B clips, C T H W a clip.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from einops import rearrange, repeat
from numpy.typing import NDArray
from torch import Tensor

from vjepa_exp.train.transfer import to_device
from vjepa_models.keyed_rng import keyed_seed

# Mean and standard deviation of ImageNet's RGB values in [0, 1], the normalisation of all released models.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


Batch = Mapping[str, NDArray[Any]]
"""Rows of the global order: `position` int64 [n]; `clips` uint8 [n, V, T, H, W, 3], V counting segments and within a
segment its spatial views, T 1 where all frames of all clips are equal; `erased` int64 [n, V, 4], the box (top, left,
height, width) of each clip that noise is to replace, zero for none; `label` int64 [n]; `path` and `error` str [n], an
empty `error` meaning none (else the clips are zero)."""


class ClipBatch(NamedTuple):
    """Clips of some rows one after the other: `frames` uint8 [B, T, H, W, 3], `erased` [B, 4], and the place of each
    clip in the run, `key` [B, 2]: position of its row, number in the row.
    """

    frames: NDArray[np.uint8]
    erased: NDArray[np.int64]
    key: NDArray[np.int64]

    @classmethod
    def of(cls, batch: Batch, rows: NDArray[np.bool_] | slice = slice(None)) -> Self:
        """The clips of the given rows of a batch, row by row."""
        frames, erased, position = (batch[name][rows] for name in ("clips", "erased", "position"))
        numbers = np.arange(frames.shape[1])
        key = np.stack(np.broadcast_arrays(position[:, None], numbers), axis=-1)
        return cls(*(rearrange(values, "n v ... -> (n v) ...") for values in (frames, erased, key)))

    def part(self, start: int, stop: int) -> Self:
        """Some of the clips."""
        return self._replace(frames=self.frames[start:stop], erased=self.erased[start:stop], key=self.key[start:stop])

    def on_device(self, device: torch.device, num_frames: int, seed: int) -> Tensor:
        """Clips fp32 [B, C, num_frames, H, W] of about zero mean and unit variance, what is erased filled with noise.

        Bytes, not floats, go to the device, and of a still image one frame. The noise depends on (seed, key) alone.
        """
        clips_BCTHW = normalised(self.frames, device)
        for i in np.flatnonzero(self.erased[:, 2]).tolist():
            top, left, height, width = self.erased[i].tolist()
            generator = torch.Generator().manual_seed(keyed_seed(seed, "erase", *self.key[i].tolist()))
            noise_CTHW = torch.randn((*clips_BCTHW.shape[1:3], height, width), generator=generator)
            clips_BCTHW[i, :, :, top : top + height, left : left + width] = to_device(noise_CTHW.numpy(), device)
        if clips_BCTHW.shape[2] == num_frames:
            return clips_BCTHW
        return repeat(clips_BCTHW, "b c 1 h w -> b c t h w", t=num_frames)


def normalised(clips_BTHWC: NDArray[np.uint8], device: torch.device) -> Tensor:
    """uint8 frames as fp32 clips [B, C, T, H, W] of about zero mean and unit variance."""
    frames = to_device(clips_BTHWC, device)
    clips_BCTHW = rearrange(frames, "b t h w c -> b c t h w").to(torch.float32, memory_format=torch.contiguous_format)
    mean, std = _statistics(device)
    return clips_BCTHW.sub_(mean).div_(std)


@cache
def _statistics(device: torch.device) -> tuple[Tensor, ...]:
    """Mean and standard deviation of a byte, each [C, 1, 1, 1]."""
    return tuple(torch.tensor(values, device=device).view(3, 1, 1, 1) * 255 for values in (MEAN, STD))
