from __future__ import annotations

import csv
from pathlib import Path

import pytest

from vjepa_exp.data.importers.kinetics import K710_NAMES, k710, kinetics
from vjepa_exp.spec.errors import UserError

HEADER = "label,youtube_id,time_start,time_end,split"
TEST_HEADER = "youtube_id,time_start,time_end,split"


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_clips_are_found_by_id_and_times_wherever_they_lie(touch, rows, tmp_path: Path) -> None:
    lists = tmp_path / "lists"
    write(lists / "train.csv", HEADER, '"making tea",--aaaaaaaaa,20,30,train', "yoga,_bbbbbbbbbb,1000,1010,train")
    write(lists / "validate.csv", HEADER, "yoga,ccccccccccc,0,10,validate", "abseiling,gone_gone_g,5,15,validate")
    write(lists / "test.csv", HEADER, "yoga,ddddddddddd,0,10,test")
    files = touch(
        "train/making tea/--aaaaaaaaa_000020_000030.mp4",
        "train/yoga/_bbbbbbbbbb_001000_001010.mkv",
        "val/ccccccccccc.mp4",
        "test/ddddddddddd_000000_000010.mp4",
        "train/yoga/not_in_list_000000_000010.mp4",
    )
    listing = kinetics(files, lists)
    assert listing.classes == ("abseiling", "making tea", "yoga")
    assert rows(listing) == [
        ("train/making tea/--aaaaaaaaa_000020_000030.mp4", "making tea", "train"),
        ("train/yoga/_bbbbbbbbbb_001000_001010.mkv", "yoga", "train"),
        ("val/ccccccccccc.mp4", "yoga", "val"),
        ("gone_gone_g_000005_000015.mp4", "abseiling", "val"),  # where one would look for it
    ]


def test_the_real_validation_list(shared_dir: Path, touch, rows) -> None:
    lists = shared_dir / "videos/annotations/kinetics400"
    listing = kinetics(touch("abseiling/0wR5jVB-WPk_000417_000427.mp4"), lists)
    assert (len(listing), len(listing.classes)) == (19906, 400)
    assert rows(listing)[0] == ("abseiling/0wR5jVB-WPk_000417_000427.mp4", "abseiling", "val")
    assert {split for _, _, split in rows(listing)} == {"val"}


@pytest.fixture
def union(tmp_path: Path) -> Path:
    """Small lists of all three: a video in several sets, one that another set tests on, one cut elsewhere."""
    lists = tmp_path / "lists"
    write(
        lists / "kinetics400/train.csv",
        HEADER,
        "drinking,in_all_four,1,11,train",
        "sniffing,only_in_400,2,12,train",
        "yoga,tested_by_6,3,13,train",
        "yoga,cut_twice__,4,14,train",
    )
    write(lists / "kinetics400/validate.csv", HEADER, "yoga,val_of_400_,5,15,validate")
    write(
        lists / "kinetics600/train.csv",
        HEADER,
        "sipping cup,in_all_four,1,11,train",
        "bull fighting,only_in_600,6,16,train",
        "yoga,val_of_400_,5,15,train",
    )
    write(lists / "kinetics600/val.csv", HEADER, "yoga,val_of_600_,7,17,val", "yoga,val_of_400_,5,15,val")
    write(lists / "kinetics600/test.csv", TEST_HEADER, "tested_by_6,3,13,test")
    write(
        lists / "kinetics700_2020/train.csv",
        HEADER,
        "making tea,in_all_four,1,11,train",
        "being excited,only_in_700,8,18,train",
        "yoga,cut_twice__,40,50,train",
    )
    write(lists / "kinetics700_2020/val.csv", HEADER, "yoga,val_of_700_,9,19,val")
    return lists


def test_the_union_holds_each_video_once_and_trains_on_none_that_is_held_out(touch, rows, union: Path) -> None:
    files = touch("k400/train/cut_twice___000004_000014.mp4", "k700/train/in_all_four_000001_000011.mp4")
    listing = k710(files, union)
    assert {path: (label, split) for path, label, split in rows(listing)} == {
        "k700/train/in_all_four_000001_000011.mp4": ("making tea", "train"),
        "only_in_700_000008_000018.mp4": ("being excited", "train"),
        "k400/train/cut_twice___000004_000014.mp4": ("yoga", "train"),  # the clip that is there
        "only_in_600_000006_000016.mp4": ("bull fighting", "train"),
        "only_in_400_000002_000012.mp4": ("smelling feet", "train"),
        "val_of_700__000009_000019.mp4": ("yoga", "val"),
        "val_of_600__000007_000017.mp4": ("yoga", "val"),
        "val_of_400__000005_000015.mp4": ("yoga", "val"),
    }
    assert len(listing) == 8
    assert listing.classes == ("being excited", "bull fighting", "making tea", "smelling feet", "yoga")


def test_the_old_names_are_names_of_kinetics_400(shared_dir: Path) -> None:
    """The lists of all three sets and that of UniFormerV2's 710 names were compared by hand: the union counts 710."""
    path = shared_dir / "videos/annotations/kinetics400/kinetics-400_val.csv"
    with path.open(encoding="utf-8") as file:
        names = {row["label"] for row in csv.DictReader(file)}
    later = {"passing american football (not in game)", "throwing ball (not baseball or American football)"}
    assert K710_NAMES.keys() - later <= names
    assert len({K710_NAMES.get(name, name) for name in names}) == 400


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("readme.txt", ["x"], "lists holds no train.csv; name the folder"),
        ("train.csv", ["a,b", "1,2"], r"train.csv: no column 'youtube_id'; its first line is 'a,b'"),
        ("train.csv", [HEADER, "yoga,aaaaaaaaaaa,x,10,train"], "aaaaaaaaaaa lasts from 'x' to '10'"),
        ("train.csv", [HEADER, "yoga,aaaaaaaaaaa,,10,train"], r"train.csv:2: no time_start"),
    ],
)
def test_lists_that_cannot_be_understood_are_named(
    touch, tmp_path: Path, name: str, lines: list[str], message: str
) -> None:
    write(tmp_path / "lists" / name, *lines)
    with pytest.raises(UserError, match=message):
        kinetics(touch(), tmp_path / "lists")


def test_two_lists_of_one_split_are_refused(touch, tmp_path: Path) -> None:
    for name in ("val.csv", "kinetics-400_val.csv"):
        write(tmp_path / "lists" / name, HEADER)
    with pytest.raises(UserError, match=r"more than one val.csv: kinetics-400_val.csv, val.csv"):
        kinetics(touch(), tmp_path / "lists")


def test_the_union_needs_all_three(touch, union: Path) -> None:
    (union / "kinetics600").rename(union / "others")
    with pytest.raises(UserError, match="one folder kinetics600 with the lists of Kinetics-600"):
        k710(touch(), union)
