"""Batches as the data room delivers them, and their way onto the device."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

# Mean and standard deviation of ImageNet's RGB values in [0, 1], the normalisation of all released models.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


Batch = Mapping[str, NDArray[Any]]
"""Rows of the global order: `position` int64 [n]; `clips` uint8 [n, V, T, H, W, 3], V counting segments and within a
segment its spatial views; `label` int64 [n]; `path` and `error` str [n], an empty `error` meaning none (else the clips
are zero)."""


def normalised(clips_BTHWC: NDArray[np.uint8], device: torch.device) -> Tensor:
    """uint8 frames as fp32 clips [B, C, T, H, W] of about zero mean and unit variance.

    Bytes, not floats, go to the device. The copy is needed: frames from a shared object store are read-only.
    """
    frames = torch.tensor(clips_BTHWC).to(device, non_blocking=True)
    clips_BCTHW = rearrange(frames, "b t h w c -> b c t h w").to(torch.float32, memory_format=torch.contiguous_format)
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1, 1) * 255 for values in (MEAN, STD))
    return clips_BCTHW.sub_(mean).div_(std)
