"""Every reader against decoding in turn, on each file that the manifest calls it exact on.

The truth is what libav shows when it is given the whole file from its first packet on, nothing left out; it is taken
here with PyAV's own calls, past the code under test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import av
import numpy as np
import numpy.typing as npt
import pytest

from vjepa_exp.data.deadline import within
from vjepa_exp.data.packets import Track, open_video
from vjepa_exp.data.probe import VIDEO_SUFFIXES, probe
from vjepa_exp.data.readers import VIDEO_READERS, DecodeError, Reader, decode, load

Pixels = npt.NDArray[np.uint8]
FAST = {"preset": "veryfast", "sc_threshold": "0"}
SMALL = 150_000
"""Bytes up to which a real file is not left to the slow test."""


class Kind(NamedTuple):
    """A kind of file, and what is expected of it: read by all readers, by PyAV from its packets, or in turn."""

    name: str
    route: str
    codec: str = "libx264"
    frames: int = 60
    size: tuple[int, int] = (128, 96)
    pixels: str = "yuv420p"
    options: Mapping[str, str] = MappingProxyType({})
    muxer: Mapping[str, str] = MappingProxyType({})
    times_ms: tuple[int, ...] = ()


def x264(**options: object) -> dict[str, str]:
    return {**FAST, **{name: str(value) for name, value in options.items()}}


def x265(parameters: str) -> dict[str, str]:
    return {"preset": "veryfast", "x265-params": f"log-level=none:scenecut=0:{parameters}"}


UNEVEN = tuple(np.cumsum(np.random.default_rng(1).integers(10, 90, 60)).tolist())
VPX = {"g": "15", "b": "200k", "deadline": "realtime", "cpu-used": "6"}
HIDDEN = {"g": "25", "b": "100k", "deadline": "good", "cpu-used": "4", "auto-alt-ref": "1", "lag-in-frames": "16"}
KINDS = [
    *(Kind(f"gop{gop}.mp4", "plain", frames=max(60, gop + 20), options=x264(g=gop, bf=3)) for gop in (1, 4, 16, 250)),
    Kind("no_b.mp4", "plain", options=x264(g=12, bf=0)),
    Kind("pyramid.mkv", "plain", options={"preset": "slow", "g": "40", "bf": "5", "x264-params": "ref=6"}),
    Kind("fragments.mp4", "plain", options=x264(g=12), muxer={"movflags": "frag_keyframe+empty_moov"}),
    Kind("uneven.mp4", "plain", options=x264(g=15, bf=3), times_ms=UNEVEN),
    Kind("uneven.mkv", "plain", options=x264(g=15, bf=3), times_ms=UNEVEN),
    Kind("size.mp4", "plain", size=(130, 98), options=x264(g=12)),
    Kind("odd_size.mp4", "fast", size=(101, 75), pixels="yuv444p", options=x264(g=12)),
    Kind("open.mp4", "fast", options=x264(g=12, bf=3, **{"x264-params": "open-gop=1"})),
    Kind("refresh.mp4", "fast", options=x264(g=20, **{"x264-params": "intra-refresh=1"})),
    Kind("interlaced.mp4", "fast", options=x264(g=12, **{"x264-params": "tff=1"})),
    Kind("closed_hevc.mp4", "fast", "libx265", options=x265("open-gop=0:keyint=12")),
    Kind("open_hevc.mp4", "fast", "libx265", options=x265("keyint=12:min-keyint=12")),
    Kind("layers_hevc.mp4", "fast", "libx265", options=x265("open-gop=0:keyint=20:temporal-layers=2")),
    Kind("vp8.webm", "plain", "libvpx", options=VPX),
    Kind("vp9.webm", "plain", "libvpx-vp9", options=VPX),
    Kind("hidden_vp9.webm", "plain", "libvpx-vp9", options=HIDDEN),
    Kind("odd_size_vp9.webm", "fast", "libvpx-vp9", size=(101, 75), options=VPX),
    Kind("av1.mp4", "turn", "libsvtav1", options={"g": "15", "preset": "12", "svtav1-params": "lp=1"}),
    Kind("mpeg4.mp4", "turn", "mpeg4", options={"g": "12", "bf": "2"}),
    Kind("mpeg4.avi", "turn", "mpeg4", options={"g": "12", "bf": "2"}),
    Kind("h264.avi", "turn", options=x264(g=12, bf=2)),
    Kind("h264.ts", "turn", options=x264(g=12, bf=2)),
    Kind("mpeg2.mpg", "turn", "mpeg2video", options={"g": "12", "bf": "2"}),
]


def pictures(count: int, width: int, height: int) -> Iterator[Pixels]:
    """A coarse texture that drifts, a square that changes: no two frames are alike."""
    rng = np.random.default_rng(0)
    shape = (height // 8 + 1, width // 8 + 1, 3)
    texture = rng.integers(0, 256, shape, dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    for i in range(count):
        picture = np.roll(texture, (i, 3 * i), (0, 1))[:height, :width].copy()
        picture[8:24, 7 * i % (width - 16) :][:, :16] = 11 * i % 256
        yield picture


def encode(path: Path, kind: Kind) -> Path:
    with av.open(str(path), "w", options=dict(kind.muxer)) as container:
        stream: Any = container.add_stream(kind.codec, rate=25, options=dict(kind.options))
        (stream.width, stream.height), stream.pix_fmt = kind.size, kind.pixels
        if kind.times_ms:
            stream.codec_context.time_base = Fraction(1, 1000)
        for i, picture in enumerate(pictures(kind.frames, *kind.size)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if kind.times_ms:
                frame.pts, frame.time_base = kind.times_ms[i], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def copy(source: Path, path: Path, change: Callable[[Any], Iterator[Any]]) -> Path:
    """Copy packets, each changed into some, without decoding."""
    options = {"avoid_negative_ts": "disabled"}
    with av.open(str(source)) as old, av.open(str(path), "w", options=options) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                for changed in change(packet):
                    changed.stream = stream
                    new.mux(changed)
    return path


def cut(packet: Any) -> Iterator[Any]:
    """Let the video begin 17 frames later: an edit list hides what is before."""
    shift = round(Fraction(17, 25) / packet.time_base)
    packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
    yield packet


def with_hidden(packet: Any) -> Iterator[Any]:
    """Put before every fifth inter frame of VP8 a picture that is not shown."""
    data = bytearray(bytes(packet))
    if data[0] & 1 and packet.pts % 5 == 0:
        data[0] &= ~16
        hidden = av.Packet(bytes(data))
        hidden.pts = hidden.dts = packet.pts - 7
        hidden.time_base = packet.time_base
        yield hidden
    yield packet


def turned(source: Path, path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Write a matrix of rotation into the header of the track."""
    data = bytearray(source.read_bytes())
    at = data.index(b"tkhd") + 44
    for place, value in zip((0, 4, 12, 16), matrix, strict=True):
        data[at + place : at + place + 4] = (value * 65536).to_bytes(4, signed=True)
    path.write_bytes(data)
    return path


def sequential(path: Path, wanted: set[int]) -> tuple[dict[int, Pixels], int]:
    """The wanted frames, turned as displayed, and how many there are."""
    found, number = {}, -1
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "NONE"  # threads hide damage otherwise from run to run
        for number, frame in enumerate(container.decode(video=0)):
            if number in wanted:
                found[number] = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
    return found, number + 1


def requests(frames: int) -> list[npt.NDArray[np.int64]]:
    """Windows near each other, far apart, random, and the last frames."""
    rng = np.random.default_rng(frames)
    span = min(frames, 64)
    starts = [0, *rng.integers(0, frames - span + 1, 3).tolist()]
    windows = [np.linspace(start, start + span - 1, 16).astype(np.int64) for start in starts]
    scattered = [rng.integers(0, frames, 9) for _ in range(3)]
    tails = [np.arange(max(0, frames - count), frames) for count in (1, 5)]
    return [np.unique(request) for request in (*windows, *scattered, *tails)]


def check(path: Path) -> str:
    """Compare all readers that a file is given to; returns which these are."""
    info = probe(path)
    assert info.decodable, (path.name, info.reason)
    wanted = requests(info.frames)
    truth, count = sequential(path, {int(number) for request in wanted for number in request})
    assert info.frames == count, path.name
    for reader in info.readers.split(","):
        for request in wanted if here(reader) else []:
            pixels = within(120, decode, str(path), request, reader)
            wrong = [
                n for n, frame in zip(request.tolist(), pixels, strict=True) if not np.array_equal(frame, truth[n])
            ]
            assert not wrong, (path.name, reader, request.tolist(), wrong)
    return info.readers


def here(reader: Reader) -> bool:
    try:
        load(reader)
    except (ImportError, OSError, RuntimeError):
        assert reader == "torchcodec"
        return False
    return True


def indexed(path: Path) -> bool:
    with open_video(str(path)) as container:
        return Track.read(container).indexed


ROUTES = {"plain": (",".join(VIDEO_READERS), True), "fast": ("pyav", True), "turn": ("pyav", False)}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_encoded_files(tmp_path: Path, kind: Kind) -> None:
    path = encode(tmp_path / kind.name, kind)
    assert (check(path), indexed(path)) == ROUTES[kind.route]


@pytest.mark.parametrize(("gop", "opened"), [(12, False), (250, False), (12, True)])
def test_files_cut_between_key_frames(tmp_path: Path, gop: int, opened: bool) -> None:
    options = x264(g=gop, bf=3, **({"x264-params": "open-gop=1"} if opened else {}))
    whole = encode(tmp_path / "whole.mp4", Kind("", "", options=options))
    part = copy(whole, tmp_path / "part.mp4", cut)
    assert check(part) == "pyav"
    assert probe(part).frames == 60 - 17
    assert indexed(part) is not opened
    last = np.array([42])
    assert (decode(str(part), last, "pyav") == decode(str(whole), last + 17, "pyav")).all()


def test_files_whose_end_is_cut_away(tmp_path: Path) -> None:
    data = bytearray(encode(tmp_path / "whole.mp4", Kind("", "", options=x264(g=12, bf=3))).read_bytes())
    at = data.index(b"elst") + 12
    assert int.from_bytes(data[at : at + 4]) == 2400  # ms
    data[at : at + 4] = (1240).to_bytes(4)
    path = tmp_path / "part.mp4"
    path.write_bytes(data)
    assert check(path) == "pyav"
    assert probe(path).frames < 40
    assert indexed(path)


@pytest.mark.parametrize("matrix", [(0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)])
def test_turned_files(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    upright = encode(tmp_path / "upright.mp4", Kind("", "", options=x264(g=12)))
    path = turned(upright, tmp_path / "turned.mp4", matrix)
    assert check(path) == ROUTES["plain"][0]
    shape = decode(str(path), np.array([30]), "pyav").shape
    assert shape == ((1, 128, 96, 3) if matrix[0] == 0 else (1, 96, 128, 3))


def test_pictures_that_are_not_shown_are_no_frames(tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.webm", Kind("", "", "libvpx", options=VPX))
    path = copy(whole, tmp_path / "hidden.webm", with_hidden)
    with open_video(str(path)) as container:
        assert len(Track.read(container).packets) > 65
    assert check(path) == "pyav"
    assert probe(path).frames == 60
    assert indexed(path)


def spoil(path: Path, numbers: list[int]) -> None:
    """Make the decoder fail at the packets with these numbers, in decoding order."""
    with open_video(str(path)) as container:
        packets = Track.read(container).packets
    data = bytearray(path.read_bytes())
    for packet in (packets[number] for number in numbers):
        assert packet.pos is not None
        data[packet.pos : packet.pos + 4] = b"\xff" * 4  # the length of its first unit
    path.write_bytes(data)


def test_only_what_the_wanted_frames_need_is_decoded(tmp_path: Path) -> None:
    path = encode(tmp_path / "v.mp4", Kind("", "", options=x264(g=20, bf=2)))
    wanted = np.array([24, 27])
    before = decode(str(path), wanted, "pyav")
    spoil(path, [*range(1, 20), *range(30, 60)])
    assert (decode(str(path), wanted, "pyav") == before).all()
    for spoilt in (3, 45):
        with pytest.raises(DecodeError, match="corrupt: up to frame"):
            decode(str(path), np.array([spoilt]), "pyav")


def test_damage_is_hidden_as_in_turn(tmp_path: Path) -> None:
    """libav fills what it cannot decode from other pictures, those before the group among them."""
    whole = encode(tmp_path / "whole.mp4", Kind("", "", options=x264(g=12, bf=3))).read_bytes()
    path, rng, compared = tmp_path / "damaged.mp4", np.random.default_rng(0), 0
    for _ in range(12):
        data = np.frombuffer(whole, dtype=np.uint8).copy()
        data[rng.integers(len(whole) // 3, len(whole), 3)] ^= 255
        path.write_bytes(data.tobytes())
        with suppress(DecodeError, av.FFmpegError):
            found = decode(str(path), np.array([20, 33, 50]), "pyav")
            truth, count = sequential(path, {20, 33, 50})
            if count == 60:  # else a frame is missing, and those after it have other numbers than by their times
                assert (found == np.stack([truth[number] for number in (20, 33, 50)])).all()
                compared += 1
    assert compared > 8


@pytest.mark.parametrize(
    ("kind", "skippable"),
    [("gop16.mp4", True), ("closed_hevc.mp4", True), ("layers_hevc.mp4", False), ("interlaced.mp4", False)],
)
def test_pictures_are_left_out_only_where_none_needs_them(tmp_path: Path, kind: str, skippable: bool) -> None:
    path = encode(tmp_path / kind, next(one for one in KINDS if one.name == kind))
    with open_video(str(path)) as container:
        assert Track.read(container).skippable is skippable


def real_files(videos: Path) -> list[Path]:
    found = [path for path in videos.rglob("*") if path.suffix in VIDEO_SUFFIXES and has_packets(path)]
    return sorted(path for path in found if path.name != "decord_corrupted.mp4")


def has_packets(path: Path) -> bool:
    with suppress(DecodeError), open_video(str(path)) as container:
        return bool(Track.read(container).packets)
    return False


def test_small_real_files(shared_dir: Path) -> None:
    videos = shared_dir / "videos"
    paths = [path for name in ("odd", "decode") for path in real_files(videos / name)]
    checked = [check(path) for path in paths if path.stat().st_size <= SMALL]
    assert len(checked) > 12
    assert set(checked) == {"pyav", ",".join(VIDEO_READERS)}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_all_other_real_files(shared_dir: Path) -> None:
    videos = shared_dir / "videos"
    rest = [
        path for path in real_files(videos) if path.parent.name not in ("odd", "decode") or path.stat().st_size > SMALL
    ]
    assert len([check(path) for path in rest]) > 150


def test_what_the_first_packet_says_of_the_encoder_is_heeded(shared_dir: Path, tmp_path: Path) -> None:
    """4:4:4 of x264 before its version 151: without the version, later groups decode to other pixels."""
    path = shared_dir / "videos/decode/imageio_cockatoo.mp4"
    truth, _ = sequential(path, {90, 100})
    part = tmp_path / "spoilt.mp4"
    part.write_bytes(path.read_bytes())
    spoil(part, [5])  # decoding from the first packet on is no way out
    assert (decode(str(part), np.array([90, 100]), "pyav") == np.stack([truth[90], truth[100]])).all()


def test_a_damaged_real_file_gives_what_decodes_and_no_more(shared_dir: Path) -> None:
    path = str(shared_dir / "videos/odd/decord_corrupted.mp4")
    truth = sequential_until_damage(path)
    assert (decode(path, np.arange(20), "pyav") == truth[:20]).all()
    with pytest.raises(DecodeError, match="corrupt: "):
        decode(path, np.array([3, 45]), "pyav")


def sequential_until_damage(path: str) -> Pixels:
    found = []
    with av.open(path) as container, pytest.raises(av.FFmpegError):
        found.extend(frame.to_ndarray(format="rgb24") for frame in container.decode(video=0))
    return np.stack(found)
