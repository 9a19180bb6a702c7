"""Registering a data set: hours of looking into its files are not lost before its manifest is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar, cast

import pytest
from PIL import Image

from vjepa_exp.commands.datasets import index, open_manifest
from vjepa_exp.data.guard import Lost, in_turn
from vjepa_exp.runtime.files import EachFile
from vjepa_exp.spec.errors import UserError

R = TypeVar("R")


class Watched:
    """`in_turn`, remembering what was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, work: Callable[[str], R], items: Sequence[str], /) -> Iterator[tuple[int, R | Lost]]:
        self.asked += [Path(item).name for item in items]
        return in_turn(work, items)

    def index(self, folder: Path) -> None:
        index(str(folder), "mine", folder.parent / "datasets.yaml", None, None, cast("EachFile", self))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    for number in range(3):
        Image.new("RGB", (32, 32)).save(tmp_path / "pictures" / f"{number}.png")
    return tmp_path / "pictures"


def test_what_was_found_survives_a_manifest_that_cannot_be_written(pictures: Path, tmp_path: Path) -> None:
    watched, way = Watched(), tmp_path / "manifests" / "mine.parquet.part"
    way.mkdir(parents=True)
    with pytest.raises(UserError, match=r"mine.parquet cannot be written: Is a directory"):
        watched.index(pictures)
    way.rmdir()
    watched.index(pictures)
    assert watched.asked == ["0.png", "1.png", "2.png"], "each was looked into once"
    assert open_manifest("mine", tmp_path / "datasets.yaml").column("decodable").tolist() == [True] * 3
    assert [path.name for path in (tmp_path / "manifests").iterdir()] == ["mine.parquet"]
    watched.index(pictures)
    assert len(watched.asked) == 6, "a finished index looks again"


def test_a_set_of_which_nothing_can_be_read_is_looked_at_again(pictures: Path) -> None:
    class Broken(Watched):
        def __call__(self, work: Callable[[str], R], items: Sequence[str], /) -> Iterator[tuple[int, R | Lost]]:
            return ((number, Lost("ImportError: no libav")) for number, _ in enumerate(items))

    with pytest.raises(UserError, match=r"none of its 3 files can be read; the first, .*: ImportError: no libav"):
        Broken().index(pictures)
    watched = Watched()
    watched.index(pictures)
    assert len(watched.asked) == 3
