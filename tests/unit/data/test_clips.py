from __future__ import annotations

import numpy as np
import pytest

from vjepa_exp.data.clips import clip_frames
from vjepa_exp.spec.data import ClipSpec

PAPER = ClipSpec()
EXACT = ClipSpec(indexing="exact")
LINE = [0, 4, 8, 12, 17, 21, 25, 29, 34, 38, 42, 46, 51, 55, 59, 63]


def one(frames: int, clip: ClipSpec = PAPER, start: float = 0.0, *, overlap: bool = False) -> list[int]:
    return clip_frames(frames, clip, 1, np.array([start]), overlap=overlap)[0].tolist()


# Method facts section 7, lists verified against the released loader.
@pytest.mark.parametrize("start", [0.0, 0.5, 0.999])
def test_parity_of_a_long_video_is_the_released_line_from_the_drawn_start(start: float) -> None:
    first = int(start * (300 - 64))
    assert one(300, start=start) == [first + offset for offset in LINE]


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (64, LINE),
        (63, None),
        (40, [0, 4, 8, 13, 17, 22, 26, 31, 35] + [39] * 7),
        (5, [0] + [4] * 15),
        (1, [0] * 16),
    ],
)
def test_parity_of_a_short_video_repeats_its_last_frame(frames: int, expected: list[int] | None) -> None:
    found = one(frames)
    assert found == sorted(found)
    assert found[-1] == frames - 1
    if expected is not None:
        assert found == expected


def test_parity_segments_of_an_evaluation_overlap_in_a_short_video() -> None:
    segments = clip_frames(100, PAPER, 2, np.zeros(2), overlap=True)
    assert segments[0, :4].tolist() == [0, 4, 9, 13]
    assert segments[0, -2:].tolist() == [62, 62]
    assert (segments[1] == segments[0] + 36).all()


def test_segments_of_a_video_shorter_than_a_clip_are_copies() -> None:
    segments = clip_frames(40, PAPER, 2, None, overlap=True)
    assert (segments[0] == segments[1]).all()


def test_random_starts_cover_the_released_range_and_no_more() -> None:
    starts = np.linspace(0, 1, 200, endpoint=False)
    firsts = {one(67, start=start)[0] for start in starts}
    assert firsts == {0, 1, 2}  # end is drawn from 64..66: the last frame is never reached
    assert {one(64, EXACT, start=start)[0] for start in starts} == {0, 1, 2, 3}


def test_exact_indexing_takes_every_step() -> None:
    assert one(61, EXACT) == list(range(0, 61, 4))
    assert one(40, EXACT) == [*range(0, 40, 4), *[39] * 6]


@pytest.mark.parametrize("clip", [PAPER, EXACT])
@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("segments", [1, 2, 8])
def test_all_indices_exist_whatever_the_length(clip: ClipSpec, overlap: bool, segments: int) -> None:
    for frames in [1, 2, 7, 8, 9, 63, 64, 65, 127, 128, 129, 513, 1000]:
        for starts in (None, np.zeros(segments), np.full(segments, np.nextafter(1, 0))):
            found = clip_frames(frames, clip, segments, starts, overlap=overlap)
            assert found.shape == (segments, 16)
            assert found.min() >= 0
            # More segments than frames leave parts without a frame; the evaluation never cuts the video that way.
            assert found.max() < frames or (segments > frames and not overlap)
            assert (np.diff(found, axis=1) >= 0).all()


def test_the_middle_clip_lies_in_the_middle() -> None:
    for clip in (PAPER, EXACT):
        found = clip_frames(301, clip, 1, None, overlap=True)[0]
        assert abs((found[0]) - (300 - found[-1])) <= 4
