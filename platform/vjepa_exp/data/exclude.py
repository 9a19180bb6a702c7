"""Leaving the videos of a removal list out of a data set."""

from __future__ import annotations

import pyarrow as pa

from vjepa_exp.data.manifest import Manifest
from vjepa_exp.spec.removal import RemovalList


def leave_out(manifest: Manifest, removals: RemovalList) -> Manifest:
    """The rows of a data set that a list does not name, in the same order.

    Args:
        manifest: the split that the list was made for.
        removals: the list.

    Raises:
        SpecError: the list names a video that the split does not hold, or every one that can be read.
    """
    split, name = removals.source.split, removals.source.name
    kept, left_out = manifest.without(pa.array([removal.path for removal in removals.removals], pa.string()))
    known = set(left_out.table["path"].to_pylist())
    for number, removal in enumerate(removals.removals):
        if removal.path not in known:
            raise removals.problem(f"data set '{name}' has no video {removal.path} in its {split} split", number)
    if not kept.column("decodable").any():
        raise removals.problem(f"names every readable video of the {split} split of data set '{name}'")
    return kept
