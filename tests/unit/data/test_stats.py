from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vjepa_exp.data.index import index
from vjepa_exp.data.manifest import Manifest
from vjepa_exp.data.stats import stats
from vjepa_exp.report.dataset_figure import draw_dataset


@pytest.fixture
def manifest(video_folder: Path) -> Manifest:
    return index(video_folder)


def test_numbers_are_those_of_the_readable_files(manifest: Manifest) -> None:
    found = stats(manifest)
    # 12, 16 and 20 frames at 10 a second in two classes of train, 12 and 16 in those of val
    assert sorted(found.measures["duration (s)"]) == pytest.approx([1.2] * 4 + [1.6] * 4 + [2.0] * 2)
    assert found.quantiles()["frames"] == pytest.approx([12, 12, 16, 20, 20, 15.2])
    assert found.sizes == {"64 x 48": 10}
    assert found.rates == {10.0: 10}
    assert {split: counts.tolist() for split, counts in found.labels.items()} == {"train": [3, 3], "val": [2, 2]}
    assert found.unlabelled == 0
    size = manifest.decodable().column("bytes")
    assert found.measures["bitrate (Mbit/s)"] == pytest.approx(size * 8e-6 / found.measures["duration (s)"])


def test_a_video_of_unknown_rate_has_no_duration(manifest: Manifest) -> None:
    fps = manifest.column("fps").copy()
    fps[0] = 0
    column = manifest.table.schema.get_field_index("fps")
    table = manifest.table.set_column(column, manifest.table.schema.field(column), [fps])
    found = stats(Manifest(table, manifest.root, manifest.classes))
    assert (len(found.measures["duration (s)"]), len(found.measures["frames"])) == (9, 10)


def test_images_have_a_size_and_no_duration(tmp_path: Path) -> None:
    for name, size in (("a/1.png", (40, 30)), ("a/2.png", (40, 30)), ("3.png", (20, 50))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", size).save(tmp_path / name)
    found = stats(index(tmp_path))
    assert set(found.measures) == {"short side (pixels)", "size (MiB)"}
    assert found.sizes == {"40 x 30": 2, "20 x 50": 1}
    assert (found.labels["train"].tolist(), found.unlabelled) == ([2], 1)
    draw_dataset(found, "images", tmp_path / "out" / "images.png")
    assert np.asarray(Image.open(tmp_path / "out" / "images.png").convert("L")).std() > 10


def test_the_picture_is_drawn(manifest: Manifest, tmp_path: Path) -> None:
    draw_dataset(stats(manifest), "videos", tmp_path / "videos.png")
    with Image.open(tmp_path / "videos.png") as picture:
        assert picture.size == (1320, 840)
        colours = {colour for _, colour in picture.convert("RGB").getcolors(2**20) or ()}
    assert (0x0B, 0x6E, 0x99) in colours
