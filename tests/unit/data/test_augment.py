"""What is drawn for a clip, how often, and that all its frames get the same."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from vjepa_exp.data.augment import AUTO_POLICY, RAND_OPS, augment_clip, auto_ops, erasing_box, jitter_ops, rand_ops
from vjepa_exp.data.frame_ops import Op, apply
from vjepa_exp.data.transform import Box, crop, random_box
from vjepa_exp.spec.augment import AutoAugment, ColorJitter, CropFlip, RandAugment, RandomErasing
from vjepa_models.keyed_rng import keyed_rng

DRAWS = 6000
ALL = RandAugment(probability=1.0)


def rng(i: int = 0) -> np.random.Generator:
    return keyed_rng(5, "test", i)


def clip(count: int = 1, height: int = 40, width: int = 60) -> np.ndarray:
    """Different frames of smooth colours, [count, H, W, 3]."""
    y, x = np.mgrid[0:height, 0:width]
    one = np.stack([x * 4, y * 6, (x + y) * 2], axis=-1)
    return np.stack([np.clip(one + 7 * i, 0, 255) for i in range(count)]).astype(np.uint8)


def sigma(probability: float, trials: int) -> float:
    return float(np.sqrt(probability * (1 - probability) * trials))


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"policy": ALL},
        {"policy": AutoAugment()},
        {"jitter": ColorJitter(hue=0.2)},
        {"policy": ALL, "jitter": ColorJitter(), "interpolation": "bicubic"},
    ],
    ids=["crop", "rand_augment", "auto_augment", "jitter", "all"],
)
def test_equal_frames_stay_equal(more: dict) -> None:
    still = np.repeat(clip(), 4, axis=0)
    changed = set()
    for i in range(40):
        found, _ = augment_clip(still, CropFlip(**more), 24, rng(i), antialias=False)
        assert found.shape == (4, 24, 24, 3)
        assert found.dtype == np.uint8
        assert (found == found[0]).all()
        changed.add(found.tobytes())
    assert len(changed) > 35


def test_flip_happens_as_often_as_asked_and_mirrors_the_same_crop() -> None:
    flipped = 0
    for i in range(200):
        never, always, half = (
            augment_clip(clip(2), CropFlip(flip=p), 32, rng(i), antialias=False).frames for p in (0.0, 1.0, 0.5)
        )
        assert (never[:, :, ::-1] == always).all()
        flipped += bool((half == always).all())
    assert 70 < flipped < 130


def test_a_policy_changes_neither_crop_nor_flip() -> None:
    for i in range(20):
        alone = augment_clip(clip(), CropFlip(), 32, rng(i), antialias=False).frames
        for policy in (RandAugment(probability=0.0), None):
            found = augment_clip(clip(), CropFlip(policy=policy), 32, rng(i), antialias=False).frames
            assert (found == alone).all()


def test_rand_augment_works_on_whole_frames_and_auto_augment_on_the_crop() -> None:
    frames, differ = clip(2), 0
    for i in range(20):
        drawn = rng(i)
        drawn.random()
        box = random_box(40, 60, (0.3, 1.0), (0.75, 1.35), drawn)
        state = drawn.bit_generator.state
        whole = apply(frames, rand_ops(ALL, drawn), (128, 128, 128))
        drawn.bit_generator.state = state
        pair = auto_ops(drawn)

        def cut(of: np.ndarray, box: Box = box) -> np.ndarray:
            return crop(of, box, 24, "bilinear", flip=False, antialias=False)

        first = augment_clip(frames, CropFlip(flip=0.0, policy=ALL), 24, rng(i), antialias=False).frames
        last = augment_clip(frames, CropFlip(flip=0.0, policy=AutoAugment()), 24, rng(i), antialias=False).frames
        assert (first == cut(whole)).all()
        assert (last == apply(cut(frames), pair, (124, 116, 104))).all()
        differ += bool((last != cut(apply(frames, pair, (124, 116, 104)))).any())
    assert differ > 5  # whole and cut frames have other histograms: the order is seen


def test_rand_augment_draws_four_of_fifteen_with_replacement_and_does_half_of_them() -> None:
    drawn = [rand_ops(RandAugment(), rng(i)) for i in range(DRAWS)]
    counts = np.bincount([len(ops) for ops in drawn], minlength=5)
    expected = np.array([1, 4, 6, 4, 1]) / 16
    assert np.abs(counts - expected * DRAWS).max() < 4 * sigma(3 / 8, DRAWS)
    names = Counter(op.name for ops in drawn for op in ops)
    assert set(names) == set(RAND_OPS)
    assert len(names) == 15
    assert max(abs(count - DRAWS * 2 / 15) for count in names.values()) < 4 * sigma(1 / 15, 2 * DRAWS)
    assert any(len({op.name for op in ops}) < len(ops) for ops in drawn)
    first, last = (Counter(ops[i].name for ops in drawn if len(ops) == 4) for i in (0, 3))
    assert first.keys() == last.keys() == names.keys()  # no operation has a fixed place


def strengths(spec: RandAugment, name: str = "rotate", unit: float = 30.0) -> np.ndarray:
    """Signed strengths, of ten, that an operation was done with."""
    ops = [op for i in range(DRAWS) for op in rand_ops(spec, rng(i)) if op.name == name]
    return np.array([op.value for op in ops]) / unit * 10


def test_strengths_are_normal_about_seven_with_either_sign() -> None:
    for spec in (ALL, RandAugment()):
        found = strengths(spec)
        assert np.abs(found).mean() == pytest.approx(7, abs=0.05)
        assert np.abs(found).std() == pytest.approx(0.5, abs=0.03)
        within = (np.abs(np.abs(found) - 7) < 0.5).mean()
        assert within == pytest.approx(0.683, abs=0.05)
        assert abs((found > 0).mean() - 0.5) < 0.06


def test_strengths_stay_within_zero_and_ten() -> None:
    for magnitude in (0.5, 9.5):
        found = np.abs(strengths(RandAugment(probability=1.0, magnitude=magnitude, magnitude_std=2.0)))
        assert found.min() >= 0
        assert found.max() <= 10
        assert ((found == 0) | (found == 10)).mean() > 0.2
    fixed = np.abs(strengths(RandAugment(probability=1.0, magnitude=3.0, magnitude_std=0.0)))
    assert np.allclose(fixed, 3)


def test_values_of_the_operations_are_those_of_increasing_strength() -> None:
    at = {name: (value(0.7, 1.0), value(0.7, -1.0)) for name, value in RAND_OPS.items()}
    none, enhance = (0.0, 0.0), (pytest.approx(1.63), pytest.approx(0.37))
    assert at == {
        "auto_contrast": none,
        "equalize": none,
        "invert": none,
        "rotate": (21, -21),
        "posterize": (2, 2),
        "solarize": (77, 77),
        "solarize_add": (77, 77),
        "color": enhance,
        "contrast": enhance,
        "brightness": enhance,
        "sharpness": enhance,
        "shear_x": (pytest.approx(0.21), pytest.approx(-0.21)),
        "shear_y": (pytest.approx(0.21), pytest.approx(-0.21)),
        "translate_x": (pytest.approx(0.315), pytest.approx(-0.315)),
        "translate_y": (pytest.approx(0.315), pytest.approx(-0.315)),
    }
    nothing, most = ({name: value(s, 1.0) for name, value in RAND_OPS.items()} for s in (0.0, 1.0))
    image = clip()
    for name in ("rotate", "solarize", "solarize_add", "color", "brightness", "sharpness", "shear_x", "translate_y"):
        assert (apply(image, [Op(name, nothing[name])], (0, 0, 0)) == image).all(), name
    assert (most["posterize"], most["solarize"], most["solarize_add"]) == (0, 0, 110)


def test_the_policy_of_auto_augment_is_the_published_one() -> None:
    """ImageNet's sub-policies 0 to 24: first letters of the operation, tenths of the probability, strength."""
    published = """
        P4,8 R6,9 / S6,5 A6,5 / E8,8 E6,3 / P6,7 P6,6 / E4,7 S2,4 / E4,4 R8,8 / S6,3 E6,7 / P8,5 E10,2 / R2,3 S6,8 /
        E6,8 P4,6 / R8,8 C4,0 / R4,9 E6,2 / E0,7 E8,8 / I6,4 E10,8 / C6,4 Co10,8 / R8,8 C10,2 / C8,8 S8,7 /
        Sh4,7 I6,8 / X6,5 E10,9 / C4,0 E6,3 / E4,7 S2,4 / S6,5 A6,5 / I6,4 E10,8 / C6,4 Co10,8 / E8,8 E6,3
    """
    letters = {"sharpness": "Sh", "contrast": "Co", "shear_x": "X"}
    ours = " / ".join(
        " ".join(f"{letters.get(name, name[0].upper())}{10 * p:.0f},{level}" for name, p, level in pair)
        for pair in AUTO_POLICY
    )
    assert ours == " ".join(published.split())


def test_auto_augment_does_each_operation_as_often_as_its_policy_says() -> None:
    drawn = [auto_ops(rng(i)) for i in range(DRAWS)]
    assert max(map(len, drawn)) == 2
    names = Counter(op.name for ops in drawn for op in ops)
    for name in {name for pair in AUTO_POLICY for name, _, _ in pair}:
        expected = sum(p for pair in AUTO_POLICY for other, p, _ in pair if other == name) / 25
        assert abs(names[name] - expected * DRAWS) < 4 * np.sqrt(expected * DRAWS), name
    values = {name: {round(abs(op.value), 3) for ops in drawn for op in ops if op.name == name} for name in names}
    assert values == {
        "posterize": {6, 7},  # bits that are kept
        "rotate": {9, 24, 27},
        "solarize": {76, 102, 128, 179, 204},
        "auto_contrast": {0},
        "equalize": {0},
        "invert": {0},
        "color": {0.1, 0.46, 0.82, 1.54},
        "contrast": {1.54},
        "sharpness": {1.36},
        "shear_x": {0.15},
    }
    turned = [op.value for ops in drawn for op in ops if op.name == "rotate"]
    assert abs(np.mean(np.sign(turned))) < 0.1


def test_jitter_scales_within_its_ranges_in_any_order() -> None:
    spec = ColorJitter(brightness=0.4, contrast=0.0, saturation=0.2, hue=0.1)
    drawn = [jitter_ops(spec, rng(i)) for i in range(DRAWS)]
    orders = Counter(tuple(op.name for op in ops) for ops in drawn)
    assert len(orders) == 6
    assert min(orders.values()) > DRAWS / 6 - 4 * sigma(1 / 6, DRAWS)
    for name, low, high in (("brightness", 0.6, 1.4), ("color", 0.8, 1.2), ("hue", -0.1, 0.1)):
        values = np.array([op.value for ops in drawn for op in ops if op.name == name])
        assert values.min() == pytest.approx(low, abs=0.01)
        assert values.max() == pytest.approx(high, abs=0.01)
        assert values.mean() == pytest.approx((low + high) / 2, abs=0.01)


def test_erasing_boxes_have_the_share_area_and_ratio_of_the_released_code() -> None:
    boxes = [erasing_box(224, RandomErasing(), rng(i)) for i in range(DRAWS)]
    some = [box for box in boxes if box is not None]
    assert abs(len(some) - DRAWS / 4) < 4 * sigma(1 / 4, DRAWS)
    area = np.array([box.height * box.width for box in some]) / 224**2
    ratio = np.array([box.height / box.width for box in some])
    assert 0.018 < area.min() < 0.03
    assert 0.31 < area.max() < 0.335
    assert 0.27 < ratio.min() < 0.33
    assert 3.0 < ratio.max() < 3.6
    assert abs((ratio > 1).mean() - 0.5) < 0.06  # log-uniform
    assert all(box.top >= 0 and box.left >= 0 for box in some)
    assert max(box.top + box.height for box in some) == max(box.left + box.width for box in some) == 224
    assert min(box.top for box in some) == min(box.left for box in some) == 0
    assert all(box.height < 224 and box.width < 224 for box in some)


def test_a_box_that_does_not_fit_is_no_box() -> None:
    assert erasing_box(32, RandomErasing(probability=1.0, area=(1.0, 1.0), ratio=(1.0, 1.0)), rng()) is None
    assert erasing_box(32, RandomErasing(probability=1.0), rng()) is not None
    assert augment_clip(clip(), CropFlip(), 32, rng(), antialias=False).erased is None
    spec = CropFlip(erasing=RandomErasing(probability=1.0))
    frames, box = augment_clip(clip(), spec, 32, rng(), antialias=False)
    assert box is not None
    assert (frames == augment_clip(clip(), CropFlip(), 32, rng(), antialias=False).frames).all()
