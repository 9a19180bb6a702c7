from __future__ import annotations

from pathlib import Path

import pytest

from vjepa_exp.data.importers.howto100m import howto100m
from vjepa_exp.spec.errors import UserError

CSV = """video_id,category_1,category_2,rank,task_id
nVbIUDjzWY4,Cars & Other Vehicles,Motorcycles,27,52907
-_97kyZVWVG,"Hobbies and Crafts","Crafts, other",34,119814
nVbIUDjzWY4,Cars & Other Vehicles,Motorcycles,35,109057
gkjnR3-ZVts,Food and Entertaining,Drinks,6,25938
"""


def test_videos_are_training_data_without_a_class_each_once(touch, rows, tmp_path: Path) -> None:
    files = touch("n/nVbIUDjzWY4.webm", "g/gkjnR3-ZVts.mp4", "HowTo100M_v1.csv")
    (files / "HowTo100M_v1.csv").write_text(CSV)
    listing = howto100m(files, files)
    assert rows(listing) == [
        ("n/nVbIUDjzWY4.webm", "", "train"),
        ("-_97kyZVWVG.mp4", "", "train"),
        ("g/gkjnR3-ZVts.mp4", "", "train"),
    ]


def test_a_thumbnail_beside_a_video_does_not_take_its_place(touch, rows, tmp_path: Path) -> None:
    files = touch("a/nVbIUDjzWY4.JPG", "n/nVbIUDjzWY4.webm", "n/nVbIUDjzWY4.jpg", "gkjnR3-ZVts.png", "HowTo100M_v1.csv")
    (files / "HowTo100M_v1.csv").write_text(CSV)
    paths = [path for path, _, _ in rows(howto100m(files, files))]
    assert paths == ["n/nVbIUDjzWY4.webm", "-_97kyZVWVG.mp4", "gkjnR3-ZVts.mp4"]


def test_without_its_list_it_is_refused(touch, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no HowTo100M_v1.csv"):
        howto100m(touch("a.mp4"), tmp_path / "files")
