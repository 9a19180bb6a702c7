"""Random numbers as a pure function of (seed, purpose, index): the only source of randomness in the project.

The key is hashed (BLAKE2b), so neighbouring indices give unrelated streams, and drives Philox, a counter-based
generator whose bit stream numpy keeps stable across versions. Nothing here depends on the process, the worker or the
call order.
"""

from hashlib import blake2b

import numpy as np


def _digest(seed: int, purpose: str, index: tuple[int, ...]) -> int:
    key = "\0".join([str(int(seed)), purpose, *(str(int(i)) for i in index)])
    return int.from_bytes(blake2b(key.encode(), digest_size=16).digest(), "little")


def keyed_rng(seed: int, purpose: str, *index: int) -> np.random.Generator:
    """A generator for one purpose and index.

    Draw with `random()` where numbers must survive a numpy upgrade: unlike the other distributions it is a fixed
    function of the bit stream.
    """
    return np.random.Generator(np.random.Philox(key=_digest(seed, purpose, index)))


def keyed_seed(seed: int, purpose: str, *index: int) -> int:
    """A 63-bit seed for generators that are not numpy's (`torch.Generator.manual_seed`)."""
    return _digest(seed, purpose, index) >> 65
