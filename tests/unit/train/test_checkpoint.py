"""Checkpoints: whole or not at all, read without running code, refused where they do not belong."""

from __future__ import annotations

import errno
import os
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch

from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.stages import PretrainRecipe
from vjepa_exp.train.checkpoint import STATE_FILE, load_checkpoint, read_checkpoint, save_checkpoint, step_reached
from vjepa_exp.train.pretrain import initial_state


@pytest.fixture
def folder(recipe: PretrainRecipe, tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "checkpoint", initial_state(recipe), recipe, "order")
    return tmp_path / "checkpoint"


def test_another_recipe_is_refused_and_the_difference_named(recipe: PretrainRecipe, folder: Path) -> None:
    optim = recipe.pretrain.optim.model_copy(update={"lr": 0.5})
    other = recipe.model_copy(update={"pretrain": recipe.pretrain.model_copy(update={"optim": optim})})
    with pytest.raises(UserError, match=r"another recipe: pretrain\.optim\.lr: 0\.002 there, 0\.5 here"):
        load_checkpoint(folder, initial_state(other), other, "order")


def test_another_order_of_samples_is_refused(recipe: PretrainRecipe, folder: Path) -> None:
    with pytest.raises(UserError, match="another order of samples"):
        load_checkpoint(folder, initial_state(recipe), recipe, "other order")


def test_missing_and_unexpected_keys_are_named(recipe: PretrainRecipe, folder: Path) -> None:
    content = torch.load(folder / STATE_FILE, weights_only=True)
    content["state"]["encoder"]["norm.gain"] = content["state"]["encoder"].pop("norm.weight")
    torch.save(content, folder / STATE_FILE)
    with pytest.raises(UserError, match=r"norm\.weight.*norm\.gain"):
        load_checkpoint(folder, initial_state(recipe), recipe, "order")


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.999])
def test_a_damaged_file_is_one_clear_line(folder: Path, keep: float) -> None:
    content = (folder / STATE_FILE).read_bytes()
    (folder / STATE_FILE).write_bytes(content[: int(keep if keep >= 1 else keep * len(content))])
    for read in (read_checkpoint, step_reached):
        with pytest.raises(UserError, match="cannot be read") as error:
            read(folder, PretrainRecipe)
        assert "\n" not in str(error.value)
        assert "mmap" not in str(error.value)


def test_the_step_is_that_of_the_whole_checkpoint(recipe: PretrainRecipe, folder: Path) -> None:
    state = initial_state(recipe)
    state.step = 7
    save_checkpoint(folder, state, recipe, "order")
    assert step_reached(folder, PretrainRecipe) == read_checkpoint(folder, PretrainRecipe).state["step"] == 7


@pytest.mark.parametrize(
    ("change", "message"),
    [({"format": 99}, "has format 99, this version reads 1"), ({"recipe": '{"kind": "pretrain"}'}, "cannot read")],
)
def test_a_checkpoint_of_another_version_is_refused(folder: Path, change: dict[str, Any], message: str) -> None:
    content = torch.load(folder / STATE_FILE, weights_only=True)
    torch.save({**content, **change}, folder / STATE_FILE)
    with pytest.raises(UserError, match=message):
        read_checkpoint(folder, PretrainRecipe)


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no checkpoint in .*state\.pt is missing"):
        read_checkpoint(tmp_path, PretrainRecipe)
    assert step_reached(tmp_path, PretrainRecipe) == 0


class _Touch:
    """Pickles into a call that makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    witness = tmp_path / "was run"
    torch.save({"format": 1, "state": _Touch(witness)}, tmp_path / STATE_FILE)
    with pytest.raises(UserError, match="cannot be read"):
        read_checkpoint(tmp_path, PretrainRecipe)
    assert not witness.exists()


def test_a_full_disk_stops_with_one_line_and_keeps_the_old_checkpoint(recipe: PretrainRecipe, folder: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    before = (folder / STATE_FILE).read_bytes()
    (folder / f"{STATE_FILE}.part").symlink_to("/dev/full")
    with pytest.raises(UserError, match="cannot be written: No space left on device"):
        save_checkpoint(folder, initial_state(recipe), recipe, "order")
    assert (folder / STATE_FILE).read_bytes() == before


def test_a_disk_that_is_full_for_a_moment_is_told_as_one(
    recipe: PretrainRecipe, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(BytesIO):
        writes = 0

        def write(self, data: Any) -> int:
            self.writes += 1
            if self.writes == 10:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data)

    before = (folder / STATE_FILE).read_bytes()
    monkeypatch.setattr(Path, "open", lambda *_: Full())
    with pytest.raises(UserError, match="cannot be written: No space left on device"):
        save_checkpoint(folder, initial_state(recipe), recipe, "order")
    monkeypatch.undo()
    assert (folder / STATE_FILE).read_bytes() == before
