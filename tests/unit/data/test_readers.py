from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vjepa_exp.data.probe import probe
from vjepa_exp.data.readers import DecodeError, Reader, decode, pick, require
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.execution import ReaderChoice


@pytest.mark.parametrize("reader", ["decord", "pyav"])
def test_the_frames_asked_for_come_back(make_video, tmp_path: Path, reader: Reader) -> None:
    path = make_video(tmp_path / "a b ü.mp4", frames=20)
    wanted = np.array([0, 3, 7, 8, 19])
    clip = decode(str(path), wanted, reader)
    assert clip.shape == (5, 48, 64, 3)
    assert clip.dtype == np.uint8
    brightness = clip[:, :, 32:].mean(axis=(1, 2, 3))
    assert np.abs(brightness - (4 * wanted + 8)).max() < 2


def test_both_readers_return_the_same_bits(make_video, tmp_path: Path) -> None:
    path = str(make_video(tmp_path / "v.mp4", frames=25))
    for wanted in (np.array([0]), np.array([24]), np.arange(25), np.array([5, 9, 16, 23])):
        assert (decode(path, wanted, "decord") == decode(path, wanted, "pyav")).all()


@pytest.mark.parametrize("reader", ["decord", "pyav", "image"])
@pytest.mark.parametrize("content", [b"", b"text " * 500, b"\x00\x00\x00\x18ftypmp42" + bytes(3000)])
def test_a_file_that_is_no_video_is_a_decode_error(tmp_path: Path, reader: Reader, content: bytes) -> None:
    path = tmp_path / "bad.mp4"
    path.write_bytes(content)
    with pytest.raises(DecodeError) as caught:
        decode(str(path), np.array([0]), reader)
    assert caught.value.path == str(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reader", ["decord", "pyav", "image"])
def test_a_missing_file_is_a_decode_error(tmp_path: Path, reader: Reader) -> None:
    with pytest.raises(DecodeError):
        decode(str(tmp_path / "none.mp4"), np.array([0]), reader)


@pytest.mark.parametrize("reader", ["decord", "pyav"])
def test_frames_past_the_end_are_said_to_be_missing(make_video, tmp_path: Path, reader: Reader) -> None:
    path = make_video(tmp_path / "v.mp4", frames=6)
    with pytest.raises(DecodeError, match="short: 6 frames, frame 6 asked for"):
        decode(str(path), np.array([2, 6]), reader)


def test_a_width_that_decord_refuses_goes_to_pyav(make_video, tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.mp4", frames=6, width=48, height=32)
    info = probe(path)
    assert (info.readers, info.frames, info.width) == ("pyav", 6, 48)


@pytest.mark.parametrize(
    ("exact", "choice", "reader"),
    [
        ("pyav,torchcodec,decord", "auto", "pyav"),
        ("pyav,torchcodec,decord", "decord", "decord"),
        ("pyav,torchcodec,decord", "torchcodec", "torchcodec"),
        ("pyav", "decord", "pyav"),
        ("image", "decord", "image"),
    ],
)
def test_a_choice_is_followed_where_it_is_exact(exact: str, choice: ReaderChoice, reader: Reader) -> None:
    assert pick(exact, choice) == reader


def test_a_reader_that_is_not_here_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    monkeypatch.delitem(sys.modules, "vjepa_exp.data.reader_torchcodec", raising=False)
    for choice in ("auto", "pyav", "decord"):
        require(choice)
    with pytest.raises(UserError, match=r"execution.reader: torchcodec cannot be loaded here.*pip install") as caught:
        require("torchcodec")
    assert "\n" not in str(caught.value)


def test_nothing_is_loaded_that_was_not_chosen() -> None:
    code = (
        "import sys, vjepa_exp.data.source as s; s.require('auto'); print({'decord', 'torchcodec'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_an_image_is_one_frame(tmp_path: Path) -> None:
    Image.new("L", (30, 20), 77).save(tmp_path / "grey.png")
    frames = decode(str(tmp_path / "grey.png"), np.array([0]), "image")
    assert frames.shape == (1, 20, 30, 3)
    assert (frames == 77).all()


def test_damage_in_the_middle_never_escapes_as_another_error(make_video, tmp_path: Path) -> None:
    whole = make_video(tmp_path / "v.mp4", frames=20).read_bytes()
    rng = np.random.default_rng(0)
    for i in range(20):
        data = np.frombuffer(whole, dtype=np.uint8).copy()
        at = rng.integers(0, len(data), 30)
        data[at] = rng.integers(0, 256, 30)
        path = tmp_path / f"{i}.mp4"
        path.write_bytes(data.tobytes())
        for reader in ("decord", "pyav"):
            with suppress(DecodeError):
                assert len(decode(str(path), np.array([1, 11]), reader)) == 2


@pytest.mark.parametrize(
    ("name", "plain", "frames", "size"),
    [
        ("odd/decord_video_90.mov", True, 3, (320, 568)),  # turned
        ("odd/torchcodec_h265_video.mp4", False, 10, (128, 128)),  # open GOP
        ("odd/torchcodec_h264_10bits.mp4", False, 30, (200, 200)),  # other colours in decord's old libraries
        ("odd/mediabunny_no-initial-keyframe.ts", False, 15, (640, 352)),
        ("odd/moviepy_test_video.mp4", False, 5, (1, 1)),
        ("decode/torchcodec_nasa_13013.mp4", False, 325, (320, 180)),  # decord counts 390
        ("decode/mmaction2_test.mp4", True, 300, (340, 256)),
        ("decode/ffmpegwasm_Big_Buck_Bunny_180_10s.webm", True, 300, (320, 180)),
        ("weizmann/run/lena_run.avi", False, 52, (180, 144)),
    ],
)
def test_real_files_are_known_for_what_they_are(
    shared_dir: Path, name: str, plain: bool, frames: int, size: tuple[int, int]
) -> None:
    info = probe(shared_dir / "videos" / name)
    assert (info.decodable, info.frames, (info.width, info.height)) == (True, frames, size)
    assert info.readers == ("pyav,torchcodec,decord" if plain else "pyav")
