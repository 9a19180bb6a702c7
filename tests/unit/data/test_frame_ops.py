"""Every operation against its definition, written anew in numpy."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from vjepa_exp.data.frame_ops import Op, apply

FILL = (128, 10, 200)
Image = np.ndarray


def picture(height: int = 23, width: int = 31) -> Image:
    """Smooth colours under noise, with a dark and a light part in every channel, [H, W, 3]."""
    y, x = np.mgrid[0:height, 0:width]
    smooth = np.stack([x * 200 / width, y * 220 / height, (x + y) * 180 / (height + width)], axis=-1)
    noise = np.random.default_rng(0).integers(0, 30, (height, width, 3))
    return (smooth + noise + 5).astype(np.uint8)


def done(name: str, value: float = 0.0, image: Image | None = None) -> Image:
    one = picture() if image is None else image
    return apply(one[None], [Op(name, value)], FILL)[0]


def close(found: Image, expected: Image) -> None:
    """Equal up to the rounding of one level."""
    assert np.abs(found.astype(float) - np.clip(expected, 0, 255)).max() <= 1


def grey(image: Image) -> Image:
    """Luma of ITU-R 601, [H, W]."""
    return image.astype(float) @ np.array([0.299, 0.587, 0.114])


def blend(start: Image | float, image: Image, factor: float) -> Image:
    return start + factor * (image.astype(float) - start)


def test_invert_solarize_and_posterize_are_maps_of_levels() -> None:
    image = picture()
    assert (done("invert") == 255 - image).all()
    assert (done("solarize", 77) == np.where(image < 77, image, 255 - image)).all()
    assert (done("solarize", 256) == image).all()
    assert (done("solarize_add", 76) == np.where(image < 128, np.minimum(image.astype(int) + 76, 255), image)).all()
    assert (done("posterize", 2) == image // 64 * 64).all()
    assert (done("posterize", 8) == image).all()
    assert (done("posterize", 0) == 0).all()


@pytest.mark.parametrize("factor", [0.1, 0.55, 1.0, 1.63, 1.9])
def test_enhancements_move_away_from_their_degenerate_picture(factor: float) -> None:
    image = picture()
    close(done("brightness", factor), blend(0.0, image, factor))
    close(done("contrast", factor), blend(np.floor(grey(image).mean() + 0.5), image, factor))
    # The degenerate picture is itself rounded to whole levels, which a factor carries further.
    assert np.abs(done("color", factor) - np.clip(blend(grey(image)[..., None], image, factor), 0, 255)).max() < 2
    smooth = image.astype(float)
    around = sum(image[1 + dy : 22 + dy, 1 + dx : 30 + dx].astype(float) for dy in (-1, 0, 1) for dx in (-1, 0, 1))
    smooth[1:-1, 1:-1] = (around + 4 * smooth[1:-1, 1:-1]) / 13
    assert np.abs(done("sharpness", factor) - np.clip(blend(smooth, image, factor), 0, 255)).max() < 2
    if factor == 1:
        assert all((done(name, 1.0) == image).all() for name in ("brightness", "contrast", "color", "sharpness"))


def test_auto_contrast_stretches_each_channel_of_a_frame() -> None:
    image = picture()
    low, high = image.min(axis=(0, 1)).astype(float), image.max(axis=(0, 1))
    close(done("auto_contrast"), (image - low) * 255 / (high - low))
    assert (done("auto_contrast").min(axis=(0, 1)) == 0).all()
    assert (done("auto_contrast", image=np.full_like(image, 9)) == 9).all()


def test_equalize_makes_the_levels_of_each_channel_uniform() -> None:
    image = np.random.default_rng(1).gamma(2, 20, (64, 64, 3)).clip(0, 255).astype(np.uint8)
    found = done("equalize", image=image)
    for channel in range(3):
        before, after = image[..., channel], found[..., channel]
        rank = np.array([(before < level).mean() for level in range(256)])
        assert np.abs(after / 255 - rank[before]).max() < 0.02
        assert abs(after.mean() - 127.5) < 4 < abs(before.mean() - 127.5)


def test_hue_turns_the_colours_and_keeps_the_greys() -> None:
    red = np.full((4, 4, 3), (200, 20, 20), dtype=np.uint8)
    assert done("hue", 1 / 3, red)[0, 0].tolist() == pytest.approx([20, 200, 20], abs=6)
    assert done("hue", -1 / 3, red)[0, 0].tolist() == pytest.approx([20, 20, 200], abs=6)
    assert (done("hue", 0.0, red) == red).all()
    assert (done("hue", 0.3, np.full_like(red, 90)) == 90).all()


def sampled(image: Image, inverse: Callable[[float, float], tuple[float, float]]) -> Image:
    """The picture whose pixel at (x, y) is the input's at `inverse`(x, y): cubic convolution with a = -1."""
    height, width = image.shape[:2]
    out = np.empty(image.shape)

    def weights(d: float) -> list[float]:
        return [-d + 2 * d**2 - d**3, 1 - 2 * d**2 + d**3, d + d**2 - d**3, -(d**2) + d**3]

    for row in range(height):
        for column in range(width):
            x, y = inverse(column + 0.5, row + 0.5)
            if not (0 <= x < width and 0 <= y < height):
                out[row, column] = FILL
                continue
            x0, y0 = math.floor(x - 0.5), math.floor(y - 0.5)
            columns = np.clip(np.arange(x0 - 1, x0 + 3), 0, width - 1)
            rows = np.clip(np.arange(y0 - 1, y0 + 3), 0, height - 1)
            patch = image[rows][:, columns].astype(float)
            out[row, column] = np.einsum("y,x,yxc->c", weights(y - 0.5 - y0), weights(x - 0.5 - x0), patch)
    return out


@pytest.mark.parametrize("value", [-0.21, 0.3])
def test_shears_and_shifts_read_the_input_elsewhere_and_fill_what_is_outside(value: float) -> None:
    image = picture()
    height, width = image.shape[:2]
    close(done("shear_x", value), sampled(image, lambda x, y: (x + value * y, y)))
    close(done("shear_y", value), sampled(image, lambda x, y: (x, y + value * x)))
    close(done("translate_x", value), sampled(image, lambda x, y: (x + value * width, y)))
    close(done("translate_y", value), sampled(image, lambda x, y: (x, y + value * height)))
    assert (done("translate_y", value)[0 if value < 0 else -1] == FILL).all()


@pytest.mark.parametrize("degrees", [-27.0, 21.0])
def test_rotation_turns_about_the_centre_against_the_clock(degrees: float) -> None:
    image = picture()
    turn, x0, y0 = math.radians(degrees), image.shape[1] / 2, image.shape[0] / 2

    def back(x: float, y: float) -> tuple[float, float]:
        dx, dy = x - x0, y - y0  # y points down
        return x0 + dx * math.cos(turn) - dy * math.sin(turn), y0 + dx * math.sin(turn) + dy * math.cos(turn)

    close(done("rotate", degrees), sampled(image, back))
    dot = np.zeros((21, 21, 3), dtype=np.uint8)
    dot[10, 20] = 255  # to the right of the centre; turned against the clock it goes up
    assert (done("rotate", 90.0, dot)[0, 10] == 255).all()


def test_operations_follow_each_other_on_every_frame_and_leave_the_input_alone() -> None:
    clip = np.stack([picture(), 255 - picture(), picture()[::-1]])
    clip.flags.writeable = False
    before = clip.copy()
    found = apply(clip, [Op("invert"), Op("posterize", 3), Op("invert")], FILL)
    assert (found == 255 - (255 - clip) // 32 * 32).all()
    assert (clip == before).all()
    assert apply(clip, [], FILL) is clip
