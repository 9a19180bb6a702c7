"""What stages find in their manifests: the training videos of a mixture's entry, and whether all is there at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from vjepa_exp.data.exclude import leave_out
from vjepa_exp.data.manifest import Manifest, read_entries, require_labelled
from vjepa_exp.graph.stage import Stage
from vjepa_exp.spec.data import MixtureEntry
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.removal import read_removals
from vjepa_exp.spec.stages import PretrainRecipe, ProbeRecipe


def check_data(stages: Sequence[tuple[Stage, Mapping[str, Path]]], removals: Mapping[str, Path]) -> None:
    """Refuse what stages would fail of, before any of them begins: the plan has not opened manifests.

    Args:
        stages: that are to be done, with the manifest of each of their data sets.
        removals: digest -> removal list.

    Raises:
        UserError: a probe's data set lacks a split or labels, or a removal list does not fit its data set.
    """
    labelled = set[Path]()
    for stage, manifests in stages:
        if isinstance(stage.recipe, PretrainRecipe):
            for entry in stage.recipe.pretrain.data.mixture:
                if entry.exclude is not None and entry.dataset in manifests:
                    training_videos(entry, manifests, removals)
        if isinstance(stage.recipe, ProbeRecipe):
            for dataset, manifest in manifests.items():
                if manifest not in labelled:
                    require_labelled(dataset, manifest)
                    labelled.add(manifest)


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
