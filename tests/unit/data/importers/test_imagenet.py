from __future__ import annotations

from pathlib import Path

import pytest

from vjepa_exp.data.importers.imagenet import imagenet
from vjepa_exp.spec.errors import UserError

TRAIN = ("train/n01440764/n01440764_10026.JPEG", "train/n01440764/n01440764_9.JPEG", "train/n02102040/n02102040_1.JPEG")
VAL = ("val/ILSVRC2012_val_00000001.JPEG", "val/ILSVRC2012_val_00000002.JPEG")


def test_synset_folders_of_both_splits(touch, rows, tmp_path: Path) -> None:
    files = touch(*TRAIN, "val/n02102040/ILSVRC2012_val_00000003.JPEG")
    listing = imagenet(files, files)
    assert listing.classes == ("n01440764", "n02102040")
    assert rows(listing) == [
        (TRAIN[0], "n01440764", "train"),
        (TRAIN[1], "n01440764", "train"),
        (TRAIN[2], "n02102040", "train"),
        ("val/n02102040/ILSVRC2012_val_00000003.JPEG", "n02102040", "val"),
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "LOC_val_solution.csv",
            "ImageId,PredictionString\nILSVRC2012_val_00000002,n01440764 1 2 3 4 n01440764 9 9 10 10 \n"
            "ILSVRC2012_val_00000001,n02102040 85 1 499 272 \n",
        ),
        ("val.txt", "ILSVRC2012_val_00000001.JPEG 1\nILSVRC2012_val_00000002.JPEG 0\n"),
    ],
)
def test_val_images_in_one_folder_get_their_classes_from_a_list(
    touch, rows, tmp_path: Path, name: str, text: str
) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / name).write_text(text)
    assert rows(imagenet(touch(*TRAIN, *VAL), lists))[3:] == [
        (VAL[0], "n02102040", "val"),
        (VAL[1], "n01440764", "val"),
    ]


def test_what_is_missing_is_said(touch, tmp_path: Path) -> None:
    files = touch(*TRAIN)
    with pytest.raises(UserError, match="holds no folder val"):
        imagenet(files, files)
    touch(*VAL)
    with pytest.raises(UserError, match=r"neither LOC_val_solution.csv nor val.txt"):
        imagenet(files, files)
    (files / "val.txt").write_text("ILSVRC2012_val_00000001 1\nILSVRC2012_val_00000002 2\n")  # counts the images
    with pytest.raises(UserError, match=r"val.txt:2: expected an image and a class from 0 to 1"):
        imagenet(files, files)
    (files / "val.txt").write_text("ILSVRC2012_val_00000001.JPEG 1\n")
    with pytest.raises(UserError, match=r"val_00000002.JPEG: its class '' has no folder below train"):
        imagenet(files, files)
