"""HowTo100M by `HowTo100M_v1.csv`, of which the column video_id is used. Videos: `ID.mp4` (or .webm, .mkv) anywhere
below the folder. All are training videos without a class.
"""

from __future__ import annotations

from pathlib import Path

from vjepa_exp.data.importers.lists import FilesByName, find_list, table_rows
from vjepa_exp.data.listing import Listed, Listing, make_listing


def howto100m(files: Path, lists: Path) -> Listing:
    """Every video of the list, once.

    Raises:
        UserError: the list or the folder of videos is missing or cannot be understood.
    """
    path = find_list(lists, r"HowTo100M_v\d+\.csv", "HowTo100M_v1.csv")
    found = FilesByName(files)
    videos = dict.fromkeys(video for (video,) in table_rows(path, "video_id"))
    return make_listing((Listed(found.path(video), "", "train") for video in videos), files.resolve(), str(path))
