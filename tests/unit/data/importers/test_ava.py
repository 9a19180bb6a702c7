from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vjepa_exp.data.boxes import read_boxes, write_boxes
from vjepa_exp.data.importers.ava import ava, ava_boxes
from vjepa_exp.spec.errors import UserError

ACTIONS = """label {
  name: "bend/bow (at the waist)"
  label_id: 1
  label_type: PERSON_MOVEMENT
}
label {
  name: "talk to (e.g., self, a person, a group)"
  label_id: 79
  label_type: PERSON_INTERACTION
}
"""
TRAIN = """-5KQ66BBWC4,0902,0.077,0.151,0.283,0.811,79,1
-5KQ66BBWC4,0902,0.077,0.151,0.283,0.811,1,1
-5KQ66BBWC4,0903,0.332,0.194,0.481,0.891,79,0
0f39OWEqJ24,0902,,,,,,
"""
VAL = "1j20qq1JyX4,0902,0.002,0.118,0.714,0.977,1,12\n1j20qq1JyX4,1798,0.4,0.1,0.7,0.9,79,13\n"


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    folder = tmp_path / "lists"
    folder.mkdir()
    for name, text in {
        "ava_train_v2.2.csv": TRAIN,
        "ava_val_v2.2.csv": VAL,
        "ava_train_excluded_timestamps_v2.2.csv": "-5KQ66BBWC4,0903\n_-Z6wFjXtGQ,0902\n",
        "ava_val_excluded_timestamps_v2.2.csv": "",
        "ava_action_list_v2.2.pbtxt": ACTIONS,
    }.items():
        (folder / name).write_text(text)
    return folder


def test_videos_have_no_class(touch, rows, lists: Path) -> None:
    assert rows(ava(touch("trainval/-5KQ66BBWC4.mkv", "trainval/1j20qq1JyX4.webm"), lists)) == [
        ("trainval/-5KQ66BBWC4.mkv", "", "train"),
        ("0f39OWEqJ24.mp4", "", "train"),
        ("trainval/1j20qq1JyX4.webm", "", "val"),
    ]


def test_boxes_of_the_key_frames_that_are_not_excluded(touch, lists: Path, tmp_path: Path) -> None:
    boxes = ava_boxes(touch("trainval/-5KQ66BBWC4.mkv"), lists)
    assert boxes.actions == {1: "bend/bow (at the waist)", 79: "talk to (e.g., self, a person, a group)"}
    assert boxes.excluded == 1
    write_boxes(boxes, tmp_path / "boxes.parquet")
    table = read_boxes(tmp_path / "boxes.parquet").table
    assert [(row["path"], row["split"], row["second"], row["action"], row["person"]) for row in table.to_pylist()] == [
        ("trainval/-5KQ66BBWC4.mkv", "train", 902, 79, 1),
        ("trainval/-5KQ66BBWC4.mkv", "train", 902, 1, 1),
        ("1j20qq1JyX4.mp4", "val", 902, 1, 12),
        ("1j20qq1JyX4.mp4", "val", 1798, 79, 13),
    ]
    corners = np.stack([table[name].to_numpy() for name in ("x1", "y1", "x2", "y2")], axis=1)
    assert corners[2] == pytest.approx([0.002, 0.118, 0.714, 0.977])
    with pytest.raises(UserError, match=r"v2.2.csv cannot be read"):
        read_boxes(lists / "ava_val_v2.2.csv")


def test_lists_in_this_format_by_other_hands(shared_dir: Path, touch) -> None:
    lists = shared_dir / "videos/annotations/ava_custom_ava2024"
    files = touch("IMG_0110.mp4")
    assert ava(files, lists).table["path"].to_pylist()[0] == "IMG_0110.mp4"
    boxes = ava_boxes(files, lists)
    lines = [(lists / f"ava_{split}_v2.2.csv").read_text().splitlines() for split in ("train", "val")]
    assert len(boxes.table) == sum(map(len, lines))
    assert boxes.actions[1] == "Incubation"
    assert set(boxes.table["action"].to_pylist()) <= set(boxes.actions)


def test_an_action_list_of_activitynet_is_understood(shared_dir: Path, touch, lists: Path) -> None:
    source = shared_dir / "videos/annotations/ava_activitynet/ava_action_list_v2.1_for_activitynet_2018.pbtxt.txt"
    (lists / "ava_action_list_v2.2.pbtxt").unlink()
    (lists / source.name).write_bytes(source.read_bytes())
    actions = ava_boxes(touch(), lists).actions
    assert (len(actions), actions[1], actions[80]) == (60, "bend/bow (at the waist)", "watch (a person)")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("ava_val_v2.2.csv", "a,0902,0.1,0.2,0.3,0.4,12\n", r"val_v2.2.csv:1: expected video,second,x1"),
        ("ava_val_v2.2.csv", "a,0902,0.1,x,0.3,0.4,12,1\n", r"val_v2.2.csv:1: expected"),
        ("ava_train_excluded_timestamps_v2.2.csv", "a\n", r"v2.2.csv:1: expected video,second, found 'a'"),
        ("ava_action_list_v2.2.pbtxt", "label {}\n", "names no action"),
    ],
)
def test_lists_that_cannot_be_understood_are_named(touch, lists: Path, name: str, text: str, message: str) -> None:
    (lists / name).write_text(text)
    with pytest.raises(UserError, match=message):
        ava_boxes(touch(), lists)
