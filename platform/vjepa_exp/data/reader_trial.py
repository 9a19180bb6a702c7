"""A trial of the readers on this machine: are they here, do they return the right frames, how fast are they."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import numpy.typing as npt

from vjepa_exp.data.clips import clip_frames
from vjepa_exp.data.deadline import within
from vjepa_exp.data.reader_pyav import frames_in_turn
from vjepa_exp.data.readers import VIDEO_READERS, DecodeError, Frames, Reader, decode, first_line, load
from vjepa_exp.spec.data import ClipSpec

SAMPLE = "16 of 64 frames, 340x256 H.264, 10 s"
_WIDTH, _HEIGHT, _FRAMES, _FPS, _GOP = 340, 256, 240, 24, 120
_CLIPS = 6
_DEADLINE_S = 30.0


class Trial(NamedTuple):
    """How one reader did.

    Attributes:
        reader: its name.
        clips_per_s: clips for each second of CPU time, all its threads counted; 0 if it did not come so far.
        absent: why it cannot be loaded, "" if it can.
        wrong: what it does wrong, "" for nothing.
    """

    reader: Reader
    clips_per_s: float = 0.0
    absent: str = ""
    wrong: str = ""


def try_readers() -> Iterator[Trial]:
    """Encode a sample and let every reader decode clips of it."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "sample.mp4")
        _encode(path)
        truth = np.stack([np.asarray(frame.to_ndarray(format="rgb24")) for frame in frames_in_turn(path)])
        starts = np.linspace(0, 1, _CLIPS, endpoint=False)
        clips = [clip_frames(_FRAMES, ClipSpec(), 1, start[None], overlap=False)[0] for start in starts]
        for reader in VIDEO_READERS:
            yield _try(reader, path, clips, truth)


def _try(reader: Reader, path: str, clips: list[Frames], truth: npt.NDArray[Any]) -> Trial:
    try:
        load(reader)
    except (ImportError, OSError, RuntimeError) as error:
        return Trial(reader, absent=first_line(error))
    seconds = []
    try:
        for frames in clips:
            begun = time.process_time()
            pixels = within(_DEADLINE_S, decode, path, frames, reader)
            seconds.append(time.process_time() - begun)
            if not np.array_equal(pixels, truth[frames]):
                return Trial(reader, wrong="returns other frames than decoding in turn")
    except DecodeError as error:
        return Trial(reader, wrong=first_line(error))
    except TimeoutError:
        return Trial(reader, wrong=f"did not come back in {_DEADLINE_S:.0f} s")
    return Trial(reader, clips_per_s=1 / float(np.median(seconds)))


def _encode(path: str) -> None:
    """A coarse texture that drifts, in groups of pictures with B-frames."""
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (_HEIGHT // 8, _WIDTH // 8 + 1, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=_FPS, options={"preset": "veryfast", "g": str(_GOP)})
        stream.width, stream.height, stream.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
        for i in range(_FRAMES):
            pixels = np.roll(texture, (i, 2 * i), (0, 1))[:, :_WIDTH]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels.copy(), format="rgb24")))
        container.mux(stream.encode())
