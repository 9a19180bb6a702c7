"""Kinetics-400, -600 and -700 by the CSV lists of their makers, and Kinetics-710, their union.

Lists: `train.csv` and `val.csv` (or `validate.csv`), perhaps `test.csv`, with the columns label, youtube_id, time_start
and time_end; other words may stand before the split's, as in `kinetics-400_val.csv`. Videos: `ID_START_END.mp4` with
times of six digits, or `ID.mp4`, anywhere below the folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from vjepa_exp.data.importers.lists import FilesByName, find_list, find_lists, table_rows
from vjepa_exp.data.listing import Listed, Listing, make_listing
from vjepa_exp.data.manifest import SPLITS, Split
from vjepa_exp.spec.errors import UserError

_SPLITS = {"train": "train", "val": "(val|validate|validation)", "test": "test"}
_VERSIONS = ("400", "600", "700")

K710_NAMES = {
    "balloon blowing": "inflating balloons",
    "changing wheel": "changing wheel (not on bike)",
    "cooking sausages": "cooking sausages (not on barbeque)",
    "drinking": "sipping cup",
    "dying hair": "dyeing hair",
    "garbage collecting": "person collecting garbage",
    "hugging": "hugging (not baby)",
    "making bed": "making the bed",
    "opening bottle": "opening bottle (not wine)",
    "passing american football (not in game)": "passing American football (not in game)",
    "picking fruit": "picking apples",
    "skiing (not slalom or crosscountry)": "skiing mono",
    "sniffing": "smelling feet",
    "throwing ball (not baseball or American football)": "throwing ball",
    "tying tie": "tying necktie",
}
"""Names that one of the three sets has for a class of another; with these the union counts 710 (UniFormerV2)."""


class _Clip(NamedTuple):
    video: str
    start: float
    end: float
    label: str

    @property
    def name(self) -> str:
        return f"{self.video}_{self.start:06.0f}_{self.end:06.0f}"


def kinetics(files: Path, lists: Path) -> Listing:
    """One of the three sets.

    Raises:
        UserError: a list or the folder of videos is missing or cannot be understood.
    """
    splits = [split for split in SPLITS if find_lists(lists, _pattern(split))]
    clips = {split: list(_clips(lists, split)) for split in splits or SPLITS}
    found = FilesByName(files)
    listed = (
        Listed(found.path(clip.name, clip.video), clip.label, split) for split, part in clips.items() for clip in part
    )
    classes = sorted({clip.label for part in clips.values() for clip in part})
    return make_listing(listed, files.resolve(), str(lists), classes=classes)


def k710(files: Path, lists: Path) -> Listing:
    """The union of the three sets, each video (YouTube id) once.

    A video that any of them validates or tests on is in no training split; where they differ in the class or the times
    of a video, the newest set says what it is, and of its clips the first that is on this disk is taken.

    Raises:
        UserError: a list or the folder of videos is missing or cannot be understood.
    """
    folders = [_version_folder(lists, version) for version in reversed(_VERSIONS)]
    held_out = {clip.video for folder in folders for split in ("val", "test") for clip in _clips(folder, split)}
    found, listed = FilesByName(files), list[Listed]()
    names = set[str]()
    for split in SPLITS:
        clips: dict[str, list[_Clip]] = {}
        for folder in folders:
            for clip in _clips(folder, split):
                if split == "val" or clip.video not in held_out:
                    clips.setdefault(clip.video, []).append(clip)
        for video, same in clips.items():
            label = K710_NAMES.get(same[0].label, same[0].label)
            names.add(label)
            listed.append(Listed(found.path(*(clip.name for clip in same), video), label, split))
    return make_listing(listed, files.resolve(), str(lists), classes=sorted(names))


def _version_folder(lists: Path, version: str) -> Path:
    pattern = rf"k(inetics)?[-_]?{version}([-_]2020)?"
    folders = [path for path in lists.iterdir() if path.is_dir()] if lists.is_dir() else []
    found = [path for path in folders if re.fullmatch(pattern, path.name, re.IGNORECASE)]
    if len(found) != 1:
        raise UserError(f"{lists} must hold one folder kinetics{version} with the lists of Kinetics-{version}")
    return found[0]


def _pattern(split: str) -> str:
    return rf"(.*[-_])?{_SPLITS[split]}\.csv"


def _clips(lists: Path, split: Split | Literal["test"]) -> Iterator[_Clip]:
    """The clips of a split; those of a test split without classes have none."""
    if split == "test" and not find_lists(lists, _pattern(split)):
        return
    path = find_list(lists, _pattern(split), f"{split}.csv")
    columns = ("youtube_id", "time_start", "time_end", *(() if split == "test" else ("label",)))
    for video, start, end, *label in table_rows(path, *columns):
        try:
            yield _Clip(video, float(start), float(end), *(label or [""]))
        except ValueError:
            raise UserError(f"{path}: {video} lasts from {start!r} to {end!r}: no numbers of seconds") from None
