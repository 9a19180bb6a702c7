"""One video encoded again: what is kept, what goes, and what a comparison notices."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from vjepa_exp.data.packets import Track, open_video
from vjepa_exp.data.probe import probe
from vjepa_exp.data.readers import VIDEO_READERS, DecodeError, decode
from vjepa_exp.data.reencode import Settings, UntimedError, encode, shown
from vjepa_exp.data.reencode_check import Checked, UnfitError, compare

FAST = Settings(preset="ultrafast")


def make(
    path: Path, frames: int = 40, size: tuple[int, int] = (128, 96), times_ms: list[int] | None = None, **options: Any
) -> Path:
    """A texture that drifts, in long groups of pictures."""
    rng = np.random.default_rng(0)
    width, height = size
    texture = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    pixels, codec = options.get("pixels", "yuv420p"), options.get("codec", "libx264")
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25, options={"preset": "ultrafast", "g": "250"})
        (stream.width, stream.height), stream.pix_fmt = size, pixels
        stream.codec_context.time_base = Fraction(1, 1000)
        for i in range(frames):
            picture = np.roll(texture, (i, 3 * i), (0, 1))[:height, :width].copy()
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = times_ms[i] if times_ms else 40 * i, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def again(source: Path, out: Path, settings: Settings = FAST, min_psnr: float = 25) -> Checked:
    encode(str(source), out, settings)
    return compare(str(source), out, settings, even=False, min_psnr=min_psnr)


def times(path: Path) -> list[Fraction]:
    return [time for time, _ in shown(str(path))]


def test_groups_are_short_and_closed_and_every_reader_is_exact(tmp_path: Path) -> None:
    source, out = make(tmp_path / "a.mkv", frames=70), tmp_path / "b.mp4"
    checked = again(source, out)
    assert checked.info.readers == ",".join(VIDEO_READERS)
    assert checked.psnr > 25
    with open_video(str(out)) as container:
        track = Track.read(container)
        assert track.closed
        assert track.starts.tolist() == [0, 16, 32, 48, 64]
        assert [stream.type for stream in container.streams] == ["video"]


def test_every_frame_keeps_its_time(tmp_path: Path) -> None:
    uneven = (np.cumsum(np.random.default_rng(1).integers(7, 95, 40)) + 1234).tolist()
    for suffix in ("mkv", "mp4"):
        source, out = make(tmp_path / f"a.{suffix}", times_ms=uneven), tmp_path / f"{suffix}.mp4"
        again(source, out)
        assert times(out) == times(source)
        assert times(out) == [Fraction(time, 1000) for time in uneven]


@pytest.mark.parametrize(
    ("size", "becomes"),
    [((640, 360), (454, 256)), ((360, 640), (256, 454)), ((300, 256), (300, 256)), ((101, 75), (100, 74))],
)
def test_the_short_side_shrinks_and_never_grows(
    tmp_path: Path, size: tuple[int, int], becomes: tuple[int, int]
) -> None:
    source = make(tmp_path / "a.mkv", frames=4, size=size, pixels="yuv444p")
    info = again(source, tmp_path / "b.mp4", min_psnr=15).info
    assert (info.width, info.height) == becomes


@pytest.mark.parametrize("matrix", [(0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)])
def test_rotation_is_in_the_pixels(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    data = bytearray(make(tmp_path / "upright.mp4").read_bytes())
    at = data.index(b"tkhd") + 44
    for place, value in zip((0, 4, 12, 16), matrix, strict=True):
        data[at + place : at + place + 4] = (value * 65536).to_bytes(4, signed=True)
    source, out = tmp_path / "turned.mp4", tmp_path / "b.mp4"
    source.write_bytes(data)
    again(source, out)
    assert next(shown(str(out))).frame.rotation == 0
    frames = np.array([0, 20])
    before, after = (decode(str(path), frames, "pyav").astype(int) for path in (source, out))
    assert before.shape == after.shape == ((2, 128, 96, 3) if matrix[0] == 0 else (2, 96, 128, 3))
    assert np.abs(before - after).mean() < 12


@pytest.mark.parametrize("pixels", ["yuvj420p", "yuv420p10le"])
def test_colours_stay(tmp_path: Path, pixels: str) -> None:
    source, out = make(tmp_path / "a.mp4", frames=6, pixels=pixels), tmp_path / "b.mp4"
    again(source, out, Settings(crf=5), min_psnr=15)
    frames = np.arange(6)
    before, after = (decode(str(path), frames, "pyav").astype(int) for path in (source, out))
    assert np.abs((before - after).mean(axis=(0, 1, 2))).max() < 1.5


def test_a_damaged_source_is_not_encoded_in_part(shared_dir: Path, tmp_path: Path) -> None:
    source = shared_dir / "videos/odd/decord_corrupted.mp4"
    with pytest.raises(DecodeError, match="corrupt: after frame 28"):
        encode(str(source), tmp_path / "b.mp4", FAST)


def test_frames_without_times_are_spread_evenly(tmp_path: Path) -> None:
    source = tmp_path / "a.h264"  # a bare stream has no times
    with av.open(str(source), "w", format="h264") as container:
        stream: Any = container.add_stream("libx264", rate=25, options={"bf": "2"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(12):
            pixels = np.full((48, 64, 3), 10 * i, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    with pytest.raises(UntimedError):
        encode(str(source), tmp_path / "b.mp4", FAST)
    encode(str(source), tmp_path / "b.mp4", FAST, even=True)
    compare(str(source), tmp_path / "b.mp4", FAST, even=True, min_psnr=25)
    assert times(tmp_path / "b.mp4") == [Fraction(i, 25) for i in range(12)]


def other_time(path: Path, whole: Path) -> None:
    make(path, times_ms=[40 * i + (i == 30) for i in range(40)])


def one_frame_less(path: Path, whole: Path) -> None:
    make(path, frames=39)


def one_frame_more(path: Path, whole: Path) -> None:
    make(path, frames=41)


def other_size(path: Path, whole: Path) -> None:
    make(path, size=(126, 96))


def other_pictures(path: Path, whole: Path) -> None:
    encode(str(make(path.with_name("w.mp4"), size=(640, 480))), path, Settings(short_side=96, preset="ultrafast"))


def cut_short(path: Path, whole: Path) -> None:
    path.write_bytes(whole.read_bytes()[:-700])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (other_time, "frame 30 is shown at 1.201"),
        (one_frame_less, "fewer frames"),
        (one_frame_more, "more frames"),
        (other_size, "126 x 96 pixels instead of 128 x 96"),
        (other_pictures, "dB in frame 0, less than 22"),
        (cut_short, "cannot be read"),
    ],
)
def test_what_is_not_the_source_is_noticed(tmp_path: Path, spoil: Callable[[Path, Path], None], message: str) -> None:
    source, whole = make(tmp_path / "a.mp4"), tmp_path / "whole.mp4"
    again(source, whole)
    spoil(tmp_path / "b.mp4", whole)
    with pytest.raises(UnfitError, match=message):
        compare(str(source), tmp_path / "b.mp4", FAST, even=False, min_psnr=22)


def test_readers_that_are_wrong_on_a_file_are_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vjepa_exp.data import reader_decord

    source, out = make(tmp_path / "a.mp4", frames=90), tmp_path / "b.mp4"
    again(source, out)
    right = reader_decord.decode

    def wrong(path: str, frames: Any) -> Any:
        found = np.array(right(path, frames))
        found[frames == 85] += 1
        return found

    monkeypatch.setattr(reader_decord, "decode", wrong)
    assert "decord" in probe(out).readers, "the first and the last key frame are right"
    readers = compare(str(source), out, FAST, even=False, min_psnr=25).info.readers.split(",")
    assert readers == ["pyav", "torchcodec"]
