"""AVA v2.2 by the lists of its makers: the videos, and the boxes of its key frames as a table of their own.

Lists: `ava_train_v2.2.csv` and `ava_val_v2.2.csv` (no header: video, second, x1, y1, x2, y2, action, person; corners
as shares of width and height), `ava_*_excluded_timestamps_v2.2.csv` (video, second) and
`ava_action_list_v2.2*.pbtxt`. Videos: `ID.mkv`, `ID.mp4` or `ID.webm` anywhere below the folder.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from vjepa_exp.data.boxes import BOXES, Boxes
from vjepa_exp.data.importers.lists import FilesByName, find_list, find_lists
from vjepa_exp.data.listing import Listed, Listing, make_listing, read_lines
from vjepa_exp.data.manifest import SPLITS, Split
from vjepa_exp.spec.errors import UserError

_ACTION = re.compile(r'name:\s*"(?P<name>(?:[^"\\]|\\.)*)"\s+(?:label_)?id:\s*(?P<id>\d+)')


def ava(files: Path, lists: Path) -> Listing:
    """The videos of both splits, without a class: a video holds many actions.

    Raises:
        UserError: a list or the folder of videos is missing or cannot be understood.
    """
    found = FilesByName(files)
    listed = (Listed(found.path(video), "", split) for split in SPLITS for video in _videos(lists, split))
    return make_listing(listed, files.resolve(), str(lists))


def ava_boxes(files: Path, lists: Path) -> Boxes:
    """The boxes of all key frames that are not excluded.

    Raises:
        UserError: as `ava`.
    """
    found, rows, excluded = FilesByName(files), list[dict[str, object]](), 0
    for split in SPLITS:
        out = _excluded(lists, split)
        for video, second, box, action, person in _annotations(lists, split):
            if (video, second) in out:
                excluded += 1
            elif box:
                corners = dict(zip(("x1", "y1", "x2", "y2"), box, strict=True))
                place = {"path": found.path(video), "split": split, "second": second}
                rows.append({**place, **corners, "action": action, "person": person})
    return Boxes(pa.Table.from_pylist(rows, schema=BOXES), _actions(lists), excluded)


def _list(lists: Path, split: Split) -> Path:
    return find_list(lists, rf"ava_{split}_v\d.*\.csv", f"ava_{split}_v2.2.csv")


def _videos(lists: Path, split: Split) -> dict[str, None]:
    return dict.fromkeys(row[0] for row in csv.reader(read_lines(_list(lists, split))) if row)


def _annotations(lists: Path, split: Split) -> Iterator[tuple[str, float, list[float], int, int]]:
    """Video, second, corners (none where a key frame has no box), action and person (-1 where there is none)."""
    path = _list(lists, split)
    reader = csv.reader(read_lines(path))
    for row in reader:
        try:
            video, second, *box, action, person = row
            corners = [float(corner) for corner in box if corner]
            if len(box) != 4 or len(corners) not in (0, 4):
                raise ValueError
            yield video, float(second), corners, int(action or -1), int(person or -1)
        except ValueError:
            what = "expected video,second,x1,y1,x2,y2,action,person"
            raise UserError(f"{path}:{reader.line_num}: {what}, found '{','.join(row)[:80]}'") from None


def _excluded(lists: Path, split: Split) -> set[tuple[str, float]]:
    out = set()
    for path in find_lists(lists, rf"ava_{split}_excluded_timestamps_v\d.*\.csv"):
        reader = csv.reader(read_lines(path))
        for row in reader:
            try:
                video, second = row
                out.add((video, float(second)))
            except ValueError:
                raise UserError(f"{path}:{reader.line_num}: expected video,second, found '{','.join(row)}'") from None
    return out


def _actions(lists: Path) -> dict[int, str]:
    path = find_list(lists, r"ava_action_list_v\d.*\.pbtxt(\.txt)?", "ava_action_list_v2.2.pbtxt")
    actions = {int(found["id"]): found["name"] for found in _ACTION.finditer("\n".join(read_lines(path)))}
    if not actions:
        raise UserError(f"{path} names no action")
    return actions
