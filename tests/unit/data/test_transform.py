from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image

from vjepa_exp.data.transform import Box, Interpolation, crop, random_box, resize, spatial_views
from vjepa_models.keyed_rng import keyed_rng


def frames(height: int, width: int, count: int = 2) -> np.ndarray:
    """Smooth colours, so that interpolation errors show."""
    y, x = np.mgrid[0:height, 0:width]
    one = np.stack([x * 255 / width, y * 255 / height, (x + y) * 255 / (height + width)], axis=-1)
    return np.stack([np.clip(one + 3 * i, 0, 255) for i in range(count)]).astype(np.uint8)


def test_boxes_have_the_area_and_ratio_of_the_paper() -> None:
    boxes = [random_box(256, 340, (0.3, 1.0), (0.75, 1.35), keyed_rng(0, "test", i)) for i in range(4000)]
    area = np.array([b.height * b.width / (256 * 340) for b in boxes])
    ratio = np.array([b.width / b.height for b in boxes])
    assert all(0 <= b.top <= 256 - b.height and 0 <= b.left <= 340 - b.width for b in boxes)
    assert 0.29 < area.min() < 0.32
    assert 0.74 < ratio.min() < 0.77
    assert 1.32 < ratio.max() < 1.37
    # Offsets are uniform including both ends: boxes touch each border.
    assert any(b.top == 256 - b.height and b.height < 250 for b in boxes)
    assert any(b.left == 0 and b.width < 330 for b in boxes)


def test_a_shape_that_no_box_fits_gives_the_centre_within_the_ratio() -> None:
    assert random_box(10, 100, (1.0, 1.0), (0.75, 1.35), keyed_rng(0, "test")) == (0, 43, 10, 14)
    assert random_box(100, 10, (1.0, 1.0), (0.75, 1.35), keyed_rng(0, "test")) == (43, 0, 13, 10)


@pytest.mark.parametrize("shape", [(40, 60), (256, 340)])
def test_resize_is_the_float_interpolation_within_rounding(shape: tuple[int, int]) -> None:
    clip = frames(*shape)
    exact = F.interpolate(
        rearrange(torch.from_numpy(clip), "t h w c -> t c h w").float(), (64, 64), mode="bilinear", align_corners=False
    )
    ours = resize(clip, 64, 64, antialias=False)
    assert ours.dtype == np.uint8
    assert np.abs(ours - rearrange(exact, "t c h w -> t h w c").numpy()).max() <= 1


def test_bicubic_frames_are_the_float_interpolation_rounded() -> None:
    clip = np.random.default_rng(0).integers(0, 256, (2, 50, 70, 3), dtype=np.uint8)  # overshoots at both ends
    exact = F.interpolate(
        rearrange(torch.from_numpy(clip), "t h w c -> t c h w").float(), (64, 64), mode="bicubic", align_corners=False
    )
    ours = resize(clip, 64, 64, "bicubic", antialias=False)
    assert np.abs(ours - rearrange(exact, "t c h w -> t h w c").clamp(0, 255).numpy()).max() <= 0.5


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [24, 90])
def test_images_are_resized_exactly_as_pillow_does(interpolation: Interpolation, size: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 50, 70, 3), dtype=np.uint8)
    how = Image.Resampling[interpolation.upper()]
    part = np.asarray(Image.fromarray(image[0]).crop((5, 3, 45, 43)).resize((size, size), how))
    found = crop(image, Box(3, 5, 40, 40), size, interpolation, flip=False, antialias=True)
    assert (found == part).all()
    mirrored = crop(image, Box(3, 5, 40, 40), size, interpolation, flip=True, antialias=True)
    assert (mirrored == part[:, ::-1]).all()


def test_the_view_of_an_image_is_pillows_resize_and_centre_crop() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 375, 500, 3), dtype=np.uint8)
    whole = Image.fromarray(image[0]).resize((341, 256), Image.Resampling.BILINEAR)
    left, top = round((341 - 224) / 2), (256 - 224) // 2
    expected = np.asarray(whole.crop((left, top, left + 224, top + 224)))
    assert (spatial_views(image, 224, 1, antialias=True)[0, 0] == expected).all()


def test_one_view_is_the_centre_of_the_resized_frame() -> None:
    view = spatial_views(frames(240, 320), 224, 1, antialias=False)
    assert view.shape == (1, 2, 224, 224, 3)
    whole = resize(frames(240, 320), 256, int(320 * 256 / 240), antialias=False)
    assert (view[0] == whole[:, 16:240, round((341 - 224) / 2) :][:, :, :224]).all()


@pytest.mark.parametrize(("height", "width"), [(240, 320), (320, 240)])
def test_three_views_spread_from_end_to_end_of_the_long_side(height: int, width: int) -> None:
    views = spatial_views(frames(height, width), 48, 3, antialias=False)
    assert views.shape == (3, 2, 48, 48, 3)
    along = 0 if width > height else 1  # red grows with x, green with y
    means = views[..., along].mean(axis=(1, 2, 3))
    assert means[0] < means[1] < means[2]
    assert abs(means[1] - (means[0] + means[2]) / 2) < 2


def test_a_square_frame_gives_equal_views() -> None:
    views = spatial_views(frames(64, 64), 48, 3, antialias=False)
    assert (views[0] == views[1]).all()
    assert (views[0] == views[2]).all()


@pytest.mark.filterwarnings("error")
def test_memory_of_the_decoder_is_read_and_never_written() -> None:
    clip = frames(32, 32)
    clip.flags.writeable = False
    before = clip.copy()
    for part in (Box(0, 0, 32, 32), Box(2, 3, 20, 20)):
        assert crop(clip, part, 32, "bicubic", flip=True, antialias=False).shape == (2, 32, 32, 3)
    assert (crop(clip, Box(0, 0, 32, 32), 32, "bilinear", flip=True, antialias=False) == clip[:, :, ::-1]).all()
    assert spatial_views(clip, 48, 1, antialias=False).shape == (1, 2, 48, 48, 3)
    assert (clip == before).all()
