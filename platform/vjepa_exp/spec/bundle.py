"""Experiments as texts that need no other file: the blocks and profiles that they use are written into them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vjepa_exp.spec.document import to_yaml
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.load import ExperimentFile


def bundle(name: str, files: Sequence[ExperimentFile]) -> dict[str, str]:
    """Texts by file name, to be written into one folder. What they resolve to is what the files resolve to.

    Published numbers and factors are not in them: they travel with the package.

    Args:
        name: of the first text's file, without suffix, which is the one to run.
        files: the experiment, or the members of a collection.

    Raises:
        UserError: two members have one file name.
    """
    if len(files) == 1:
        return _texts(name, files[0])
    members = {file.path.stem: file for file in files}
    if len(members) < len(files) or name in members:
        raise UserError(f"{name}: two of its experiments have one file name: give them different ones")
    texts = {f"{name}.yaml": to_yaml({"name": name, "experiments": [f"{member}.yaml" for member in members]})}
    for member, file in members.items():
        texts |= _texts(member, file)
    return texts


def _texts(name: str, file: ExperimentFile) -> dict[str, str]:
    data: dict[str, Any] = file.document.copy().data
    texts = dict[str, str]()
    for profile, (_, document) in file.profiles.items():
        beside = f"{name}.{profile}.profile.yaml"
        data["profiles"][profile]["extends"] = beside
        texts[beside] = to_yaml(document.data)
    return {f"{name}.yaml": to_yaml(data), **texts}
