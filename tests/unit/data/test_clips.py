from __future__ import annotations

import numpy as np
import pytest

from vjepa_exp.data.clips import clip_frames
from vjepa_exp.spec.data import ClipSpec

PAPER = ClipSpec()
EXACT = ClipSpec(indexing="exact")
LINE = [0, 4, 8, 12, 17, 21, 25, 29, 34, 38, 42, 46, 51, 55, 59, 63]


def one(
    frames: int, clip: ClipSpec = PAPER, start: float = 0.0, *, overlap: bool = False, rate: float = 0.0
) -> list[int]:
    return clip_frames(frames, clip, 1, np.array([start]), overlap=overlap, rate=rate)[0].tolist()


# Method facts section 7, lists verified against the released loader.
@pytest.mark.parametrize("start", [0.0, 0.5, 0.999])
def test_parity_of_a_long_video_is_the_released_line_from_the_drawn_start(start: float) -> None:
    first = int(start * (300 - 64))
    assert one(300, start=start) == [first + offset for offset in LINE]


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (64, LINE),
        (63, [0, 4, 9, 13, 18, 22, 27, 31, 36, 40, 45, 49, 54, 58, 62, 62]),
        (40, [0, 4, 8, 13, 17, 22, 26, 31, 35] + [39] * 7),
        (5, [0] + [4] * 15),
        (1, [0] * 16),
    ],
)
def test_parity_of_a_short_video_repeats_its_last_frame(frames: int, expected: list[int]) -> None:
    assert one(frames) == expected


def test_parity_segments_of_an_evaluation_overlap_in_a_short_video() -> None:
    segments = clip_frames(100, PAPER, 2, np.zeros(2), overlap=True)
    assert segments[0].tolist() == [0, 4, 9, 13, 18, 22, 27, 31, 36, 40, 45, 49, 54, 58, 62, 62]
    assert (segments[1] == segments[0] + 36).all()


def test_eight_parity_segments_spread_evenly_over_ten_seconds() -> None:
    segments = clip_frames(300, PAPER, 8, None, overlap=True)
    assert (segments - segments[0] == 33 * np.arange(8)[:, None]).all()  # (300 - 64) // 7
    assert (segments[0, 0], segments[-1, -1]) == (0, 231 + 62)
    two = clip_frames(300, PAPER, 2, None, overlap=True)  # parts of 150 hold a clip each: its middle
    assert [row.tolist() for row in two] == [[42 + x for x in LINE], [192 + x for x in LINE]]


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


def test_frames_by_time_show_the_same_seconds_whatever_the_rate() -> None:
    clip = ClipSpec(num_frames=8, fps=7.5)
    assert one(600, clip, rate=60) == list(range(0, 64, 8))
    assert one(150, clip, rate=15) == list(range(0, 16, 2))
    seconds = np.arange(8) / 7.5
    for rate in (15, 23.976, 24, 25, 29.97, 30, 48, 50, 59.94, 60):
        for start in (0.0, 0.37, 0.99):
            frames = np.array(one(int(10 * rate), clip, start, rate=float(np.float32(rate))))
            shown = (frames - frames[0]) / rate
            assert np.abs(shown - seconds).max() <= 0.5 / rate + 1e-6
    # A rate that is stored a little too low loses no frame.
    assert one(100, ClipSpec(num_frames=8, fps=29.97), rate=float(np.float32(29.97))) == list(range(8))


def test_frames_by_time_of_slow_short_and_still_files() -> None:
    assert one(40, ClipSpec(num_frames=6, fps=20), rate=10) == [0, 1, 1, 2, 2, 3]
    assert one(10, ClipSpec(num_frames=6, fps=5), rate=15) == [0, 3, 6, 9, 9, 9]
    assert one(1, ClipSpec(num_frames=6, fps=5)) == [0] * 6
    segments = clip_frames(120, ClipSpec(num_frames=4, fps=1), 3, None, overlap=True, rate=30)
    assert segments.tolist() == [[x + shift for x in (0, 30, 60, 90)] for shift in (0, 14, 28)]
    with pytest.raises(ValueError, match="rate of the video"):
        one(10, ClipSpec(num_frames=6, fps=5))


@pytest.mark.parametrize("clip", [PAPER, EXACT, ClipSpec(fps=7.3)], ids=["parity", "exact", "fps"])
@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("segments", [1, 2, 8])
def test_all_indices_exist_whatever_the_length(clip: ClipSpec, overlap: bool, segments: int) -> None:
    for frames in [1, 2, 7, 8, 9, 63, 64, 65, 127, 128, 129, 513, 1000]:
        for starts in (None, np.zeros(segments), np.full(segments, np.nextafter(1, 0))):
            found = clip_frames(frames, clip, segments, starts, overlap=overlap, rate=25)
            assert found.shape == (segments, 16)
            assert found.min() >= 0
            # More segments than frames leave parts without a frame; the evaluation never cuts the video that way.
            assert found.max() < frames or (segments > frames and not overlap)
            assert (np.diff(found, axis=1) >= 0).all()


def test_the_middle_clip_lies_in_the_middle() -> None:
    for clip in (PAPER, EXACT):
        found = clip_frames(301, clip, 1, None, overlap=True)[0]
        assert abs((found[0]) - (300 - found[-1])) <= 4
