"""Checkpoints of training: everything needed to continue bit for bit, and nothing else.

No generator state is among it: every random number is a function of (seed, purpose, index).
"""

import json
import os
import pickle
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from pydantic import ValidationError

from vjepa_exp.spec.base import Spec
from vjepa_exp.spec.errors import UserError

FORMAT = 1
STATE_FILE = "state.pt"

R = TypeVar("R", bound=Spec)
"""The recipe of a stage."""


class State(Protocol):
    """What training changes."""

    def state_dict(self, *, keep: bool = True) -> dict[str, Any]:
        """Everything needed to continue, `step` among it; called on every worker, of which some `keep` it."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`; raises RuntimeError or ValueError where it does not fit."""


class Checkpoint(NamedTuple, Generic[R]):
    """A checkpoint as read from disk, on the CPU."""

    recipe: R
    order: str
    state: dict[str, Any]


def save_checkpoint(folder: Path, state: State, recipe: Spec, order: str, *, writes: bool = True) -> None:
    """Write `folder/state.pt`: aside, synced, renamed, so that a crash leaves the old file or the new one.

    Called on every worker, of which one `writes`; the file is the same for any number of them, sharded or not.

    Raises:
        UserError: the folder cannot be written or the disk is full; training must not go on.
    """
    whole = state.state_dict(keep=writes)
    if not writes:
        return
    content = {"format": FORMAT, "recipe": recipe.model_dump_json(), "order": order, "state": whole}
    aside = folder / f"{STATE_FILE}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(folder / STATE_FILE)
        _sync_folder(folder)
    except (OSError, RuntimeError) as error:
        # After the error of the disk torch ends its file, which may raise one of its own over it.
        disk = error if isinstance(error, OSError) else error.__context__
        if not isinstance(disk, OSError):
            raise
        raise UserError(f"checkpoint {folder} cannot be written: {disk.strerror}") from error


def read_checkpoint(folder: Path, kind: type[R]) -> Checkpoint[R]:
    """Read a checkpoint of a pretraining or of a probe; only tensors and plain values, never code.

    Raises:
        UserError: there is none, it is damaged, or it was written by another version.
    """
    return _read(folder, kind, mapped=False)


def step_reached(folder: Path, kind: type[Spec]) -> int:
    """The step of a checkpoint, without reading its tensors; 0 where there is none.

    Raises:
        UserError: as `read_checkpoint`.
    """
    return int(_read(folder, kind, mapped=True).state["step"]) if (folder / STATE_FILE).is_file() else 0


def _read(folder: Path, kind: type[R], *, mapped: bool) -> Checkpoint[R]:
    path = folder / STATE_FILE
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except FileNotFoundError:
        raise UserError(f"no checkpoint in {folder}: {STATE_FILE} is missing") from None
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        if mapped:  # what torch says then is about mapping
            return _read(folder, kind, mapped=False)
        reason = str(error).partition("\n")[0] or "it ends too soon"
        raise UserError(f"checkpoint {path} cannot be read: {reason}") from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise UserError(f"checkpoint {path} has format {found}, this version reads {FORMAT}")
    try:
        recipe = kind.model_validate_json(content["recipe"])
    except ValidationError as error:
        raise UserError(f"checkpoint {path} holds a recipe that this version cannot read") from error
    return Checkpoint(recipe, content["order"], content["state"])


def load_checkpoint(folder: Path, state: State, recipe: Spec, order: str) -> None:
    """Put a checkpoint into `state`.

    Raises:
        UserError: the checkpoint cannot be read, or belongs to another recipe, other data or other networks.
    """
    checkpoint = _read(folder, type(recipe), mapped=False)
    if checkpoint.recipe != recipe:
        changed = ", ".join(_differences(checkpoint.recipe.to_json(), recipe.to_json()))
        raise UserError(f"checkpoint {folder} belongs to another recipe: {changed}")
    if checkpoint.order != order:
        raise UserError(f"checkpoint {folder} was trained on another order of samples: the data sets have changed")
    try:
        state.load_state_dict(checkpoint.state)
    except KeyError as error:
        raise UserError(
            f"checkpoint {folder} lacks {error}: another version wrote it, delete the folder to begin anew"
        ) from None
    except (RuntimeError, ValueError) as error:  # torch names missing and unexpected keys and wrong shapes
        raise UserError(f"checkpoint {folder} does not fit: {' '.join(str(error).split())}") from error


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Fields that differ, as `a.b: 1 there, 2 here`."""
    lines = []
    for key in sorted(old.keys() | new.keys()):
        there, here = old.get(key), new.get(key)
        if isinstance(there, dict) and isinstance(here, dict):
            lines += _differences(there, here, f"{prefix}{key}.")
        elif there != here:
            lines.append(f"{prefix}{key}: {json.dumps(there)} there, {json.dumps(here)} here")
    return lines


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
