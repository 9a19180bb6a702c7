"""Removal lists applied: what they name is never seen, everything else once an epoch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vjepa_exp.data.exclude import leave_out
from vjepa_exp.data.index import index
from vjepa_exp.data.manifest import Manifest
from vjepa_exp.data.source import PretrainSource
from vjepa_exp.spec.data import ClipSpec, DataSpec, MixtureEntry
from vjepa_exp.spec.errors import SpecError
from vjepa_exp.spec.removal import ListedSet, Removal, RemovalList, read_removals

REMOVED = ("down/1.mp4", "up/0.mp4", "up/broken.mp4")


@pytest.fixture(scope="module")
def manifest(video_folder: Path) -> Manifest:
    return index(video_folder / "train")


def a_list(path: Path, *videos: str) -> RemovalList:
    RemovalList(ListedSet("mine", "train", "0"), (), tuple(map(Removal, sorted(videos))), path / "list.csv").write()
    return read_removals(path / "list.csv")


def source(*parts: tuple[Manifest, float | None]) -> PretrainSource:
    entries = tuple(MixtureEntry(dataset=f"set{i}", weight=weight) for i, (_, weight) in enumerate(parts))
    data = DataSpec(mixture=entries, clip=ClipSpec(num_frames=4, frame_step=2, resolution=16))
    return PretrainSource(parts, data, seed=3)


def names(entries: list, manifest: Manifest) -> list[str]:
    return [str(Path(entry.path).relative_to(manifest.root)) for entry in entries]


def test_what_a_list_names_is_never_seen_and_the_rest_once_an_epoch(manifest: Manifest, tmp_path: Path) -> None:
    kept = leave_out(manifest, a_list(tmp_path, *REMOVED))
    order = source((kept, None))
    left = sorted({"down/0.mp4", "down/2.mp4", "up/1.mp4", "up/2.mp4"})
    for epoch in (0, 1, 10**8):
        assert sorted(names(order.entries(np.arange(4 * epoch, 4 * epoch + 4)), manifest)) == left
    assert order.num_videos == 4
    assert order.unreadable == []  # up/broken.mp4 is on the list


def test_in_a_mixture_too(manifest: Manifest, tmp_path: Path) -> None:
    kept = leave_out(manifest, a_list(tmp_path, *REMOVED))
    union = source((kept, None), (manifest, None))
    epoch = names(union.entries(np.arange(10, 20)), manifest)
    left = ["down/0.mp4", "down/2.mp4", "up/1.mp4", "up/2.mp4"]
    assert sorted(epoch) == sorted([*left, *left, "down/1.mp4", "up/0.mp4"])
    weighted = source((kept, 0.9), (manifest, 0.1))
    seen = names(weighted.entries(np.arange(10_000)), manifest)
    assert 0 < seen.count("up/0.mp4") < 0.03 * len(seen)  # from the other set alone: a sixth of a tenth


def test_order_and_fingerprint_know_what_is_left_out(manifest: Manifest, tmp_path: Path) -> None:
    whole, part = source((manifest, None)), source((leave_out(manifest, a_list(tmp_path, *REMOVED)), None))
    assert part.fingerprint != whole.fingerprint
    assert source((leave_out(manifest, a_list(tmp_path)), None)).fingerprint == whole.fingerprint


@pytest.mark.parametrize(
    ("videos", "line", "words"),
    [
        (("down/1.mp4", "down/9.mp4"), 6, "data set 'mine' has no video down/9.mp4 in its train split"),
        ([f"{label}/{i}.mp4" for label in ("down", "up") for i in range(3)], 2, "every readable video"),
    ],
)
def test_a_list_that_does_not_fit_is_named_with_its_line(
    manifest: Manifest, tmp_path: Path, videos: list[str], line: int, words: str
) -> None:
    listed = a_list(tmp_path, *videos)
    with pytest.raises(SpecError, match=words) as caught:
        leave_out(manifest, listed)
    assert str(caught.value).startswith(f"{listed.file}:{line}: ")
