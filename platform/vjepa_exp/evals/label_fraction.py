"""Parts of a training split: few labels (paper section 5.3, Table 7), and videos held out to choose settings by."""

import numpy as np
from numpy.typing import NDArray

from vjepa_models.keyed_rng import keyed_rng


def labelled_rows(labels: NDArray[np.int64], fraction: float, seed: int) -> NDArray[np.int64]:
    """Ascending rows of a class-balanced part: of each class the rounded share, at least one video.

    A pure function of its arguments; a smaller fraction with the same seed is a subset of a larger one.
    """
    if fraction == 1.0:
        return np.arange(len(labels))
    score = keyed_rng(seed, "labels.fraction").random(len(labels))
    kept = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        kept.append(rows[np.argsort(score[rows], kind="stable")][: max(1, round(fraction * len(rows)))])
    return np.sort(np.concatenate(kept))


def held_out_rows(labels: NDArray[np.int64], fraction: float, seed: int) -> NDArray[np.int64]:
    """Ascending rows that are held out: of each class the rounded share, at least one video, never its last one.

    A pure function of its arguments.
    """
    score = keyed_rng(seed, "labels.held_out").random(len(labels))
    kept = [np.empty(0, np.int64)]
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = min(len(rows) - 1, max(1, round(fraction * len(rows))))
        kept.append(rows[np.argsort(score[rows], kind="stable")][:count])
    return np.sort(np.concatenate(kept))
