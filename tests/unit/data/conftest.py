"""Small real videos for the tests of the data room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

MakeVideo = Callable[..., Path]


@pytest.fixture(scope="session")
def make_video() -> MakeVideo:
    """Encode a video whose frame i is grey of brightness 4 * i + 8, with a bright left edge."""

    def make(
        path: Path, frames: int = 20, width: int = 64, height: int = 48, codec: str = "libx264", rate: int = 10
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=rate, options={"g": "8", "bf": "2", "crf": "10"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for i in range(frames):
                pixels = np.full((height, width, 3), 4 * i + 8, dtype=np.uint8)
                pixels[:, : width // 4] = 250
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode())
        return path

    return make


@pytest.fixture(scope="session")
def video_folder(make_video: MakeVideo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/ and val/ with the classes up and down: 6 + 4 good videos, and one broken file in each split."""
    root = tmp_path_factory.mktemp("videos")
    for split, count in (("train", 3), ("val", 2)):
        for label in ("up", "down"):
            for i in range(count):
                make_video(root / split / label / f"{i}.mp4", frames=12 + 4 * i)
        (root / split / "up" / "broken.mp4").write_bytes(b"not a video" * 300)
    return root
