"""Arrays onto a device, without waiting for it."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_device(array: NDArray[Any], device: torch.device | str) -> Tensor:
    """A copy of an array as a tensor on a device.

    For a CUDA device the copy goes through page-locked memory, from which the device fetches it by itself; out of
    ordinary memory the host would stand still until the device has done all that was asked of it before.
    """
    if torch.device(device).type != "cuda":
        return torch.tensor(array, device=device)
    dtype = torch.from_numpy(np.empty(0, array.dtype)).dtype
    staged = torch.empty(array.shape, dtype=dtype, pin_memory=True)
    np.copyto(staged.numpy(), array)
    return staged.to(device, non_blocking=True)
