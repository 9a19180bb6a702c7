"""Batches as the data room delivers them, and their way onto the device."""

from typing import TypedDict

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

# Mean and standard deviation of ImageNet's RGB values in [0, 1], the normalisation of all released models.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class Batch(TypedDict):
    """Rows of the global order; `clips` is uint8 [n, V, T, H, W, 3] with V = segments x views, segment-major.

    A row whose video could not be decoded has its reason in `error` (else empty) and zeros in `clips`.
    """

    position: NDArray[np.int64]
    clips: NDArray[np.uint8]
    label: NDArray[np.int64]
    error: NDArray[np.str_]
    path: NDArray[np.str_]


def normalised(clips_BTHWC: NDArray[np.uint8], device: torch.device) -> Tensor:
    """uint8 frames as fp32 clips [B, C, T, H, W] of about zero mean and unit variance.

    Bytes, not floats, go to the device. The copy is needed: frames from a shared object store are read-only.
    """
    frames = torch.tensor(clips_BTHWC).to(device, non_blocking=True)
    clips_BCTHW = rearrange(frames, "b t h w c -> b c t h w").to(torch.float32, memory_format=torch.contiguous_format)
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1, 1) * 255 for values in (MEAN, STD))
    return clips_BCTHW.sub_(mean).div_(std)
