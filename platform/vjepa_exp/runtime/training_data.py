"""The training videos of a mixture's entry: its manifest without what its removal list names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vjepa_exp.data.exclude import leave_out
from vjepa_exp.data.manifest import Manifest, read_entries
from vjepa_exp.spec.data import MixtureEntry
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.removal import read_removals


def training_videos(entry: MixtureEntry, manifests: Mapping[str, Path], removals: Mapping[str, Path]) -> Manifest:
    """Read the training split of an entry.

    Args:
        entry: of a stage's recipe, where a list is named by its digest.
        manifests: data set -> manifest.
        removals: digest -> removal list.

    Raises:
        UserError: a file cannot be read, the list is not the one that the plan was made with, or it does not fit.
    """
    manifest = read_entries(manifests[entry.dataset], "train")
    if entry.exclude is None:
        return manifest
    listed = read_removals(removals[entry.exclude])
    if listed.digest != entry.exclude:
        raise UserError(f"{listed.file} was changed since the run was planned; start it again")
    return leave_out(manifest, listed)
