from __future__ import annotations

from pathlib import Path

import pytest

from vjepa_exp.spec.errors import SpecError
from vjepa_exp.spec.fragments import check_fragments, read_spec

BLOCKS = """\
fragments: Probes
evaluate:
  k400:
    kind: attentive_probe
    dataset: k400
    optim: {epochs: 20, lr: 1e-3}
"""
USER = """\
name: mine
recipe:
  evaluate:
    a:
      use: parts/blocks.yaml#evaluate.k400
      optim: {epochs: 3}
    list: [{use: parts/blocks.yaml#evaluate.k400, clips: 2}]
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "blocks.yaml").write_text(BLOCKS)
    (tmp_path / "user.yaml").write_text(USER)
    return tmp_path


def test_a_mapping_is_laid_over_the_block_that_it_uses(files: Path) -> None:
    document = read_spec(files / "user.yaml")
    block = {"kind": "attentive_probe", "dataset": "k400"}
    assert document.data["recipe"]["evaluate"]["a"] == block | {"optim": {"epochs": 3, "lr": 1e-3}}
    assert document.data["recipe"]["evaluate"]["list"] == [block | {"optim": {"epochs": 20, "lr": 1e-3}, "clips": 2}]


def test_values_remember_the_file_that_they_come_from(files: Path) -> None:
    document = read_spec(files / "user.yaml")
    at = ("recipe", "evaluate", "a")
    assert str(document.mark((*at, "dataset"))) == f"{files / 'parts' / 'blocks.yaml'}:5"
    assert str(document.mark((*at, "optim", "epochs"))) == f"{files / 'user.yaml'}:6"
    assert str(document.mark((*at, "optim", "lr"))) == f"{files / 'parts' / 'blocks.yaml'}:6"


def test_a_block_is_not_changed_by_its_users(files: Path) -> None:
    assert read_spec(files / "user.yaml").data == read_spec(files / "user.yaml").data


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("parts/blocks.yaml", "user.yaml:5: recipe.evaluate.a.use: 'parts/blocks.yaml' is not of the form FILE#a.b"),
        ("parts/block.yaml#evaluate.k400", "user.yaml:5: recipe.evaluate.a.use: there is no file .*block.yaml"),
        ("parts/blocks.yaml#evaluate.k40", "has no block 'evaluate.k40'. Did you mean 'k400'\\?"),
        ("parts#evaluate.k400", "user.yaml:5: recipe.evaluate.a.use: .*parts is a directory"),
        (f"{'x' * 300}#evaluate.k400", "user.yaml:5: recipe.evaluate.a.use: .*x cannot be read: File name too long"),
        (
            "parts/blocks.yaml#evaluate.k400.optim.epochs",
            "user.yaml:5: recipe.evaluate.a.use: 'evaluate.k400.optim.epochs' of parts/blocks.yaml is no mapping",
        ),
        ("parts/blocks.yaml#evaluat.k400", "has no block 'evaluat.k400'. Did you mean 'evaluate'\\?"),
    ],
)
def test_a_block_that_is_not_there_is_named(files: Path, target: str, message: str) -> None:
    (files / "user.yaml").write_text(USER.replace("parts/blocks.yaml#evaluate.k400\n", f"{target}\n"))
    with pytest.raises(SpecError, match=message):
        read_spec(files / "user.yaml")


def test_a_whole_file_may_be_laid_over_a_block(files: Path) -> None:
    (files / "user.yaml").write_text("use: parts/blocks.yaml#evaluate\nmore: 1\nk400: {dataset: mine}\n")
    document = read_spec(files / "user.yaml")
    assert (document.data["more"], document.data["k400"]["dataset"]) == (1, "mine")
    assert document.data["k400"]["optim"]["epochs"] == 20
    assert str(document.mark(("k400", "kind"))) == f"{files / 'parts' / 'blocks.yaml'}:4"


def test_a_file_of_blocks_is_checked_by_itself(files: Path) -> None:
    path = files / "parts" / "blocks.yaml"
    assert check_fragments(path) == 1
    path.write_text(BLOCKS.replace("epochs", "epoch"))
    with pytest.raises(
        SpecError, match=r"blocks.yaml:6: evaluate.k400.optim.epoch: unknown key. Did you mean 'epochs'\?"
    ):
        check_fragments(path)
