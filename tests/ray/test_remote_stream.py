"""Remote videos through the stream: the batches of local ones, and one line where the network fails."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vjepa_exp.data import remote
from vjepa_exp.data.cache import Cache
from vjepa_exp.data.index import index
from vjepa_exp.data.manifest import Manifest
from vjepa_exp.data.remote import Remote, place
from vjepa_exp.data.source import Batch, PretrainSource
from vjepa_exp.runtime.rows import Rows, StreamOptions
from vjepa_exp.runtime.stream import stream
from vjepa_exp.spec.data import ClipSpec, DataSpec, MixtureEntry
from vjepa_exp.spec.errors import UserError

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

CLIP = ClipSpec(num_frames=4, frame_step=2, resolution=32)
ROWS = Rows(batch_size=6, num_batches=8)


@dataclass(frozen=True)
class Reached:
    """A source in actors of a Ray that was started before the server was."""

    source: PretrainSource
    environment: dict[str, str]

    def load(self, positions: np.ndarray) -> Batch:
        """The rows of the source."""
        os.environ.update(self.environment)
        remote.PAUSES_S = (0.01,)
        return self.source.load(positions)


def pretrain(manifest: Manifest) -> PretrainSource:
    return PretrainSource([(manifest, None)], DataSpec(mixture=(MixtureEntry(dataset="a"),), clip=CLIP), 1)


def options(source: PretrainSource, cache: Cache, decode_workers: int) -> StreamOptions:
    return StreamOptions(decode_workers, 1, source.row_bytes, cache=cache)


def test_a_bucket_streams_the_same_bits_through_a_small_cache(bucket: Any, datasets_file: Path, tmp_path: Path) -> None:
    videos = datasets_file.parent / "videos"
    uri = bucket.put(videos, "set")
    here, there = pretrain(index(videos)), pretrain(index(place(uri)))
    size = max(path.stat().st_size for path in videos.rglob("*.mp4"))
    cache = Cache(tmp_path / "cache", limit_bytes=8 * size)  # of 18 files
    streamed = list(stream(Reached(there, bucket.environment), ROWS, options(there, cache, 2)))
    assert len(streamed) == 8
    for number, batch in enumerate(streamed):
        local = here.load(np.array(ROWS.positions(number)))
        for name in set(local) - {"path"}:
            assert np.array_equal(batch[name], local[name]), name
        assert batch["clips"].any()
        assert not batch["skipped"].astype(bool).any()
        assert [path.removeprefix(uri) for path in batch["path"]] == [
            path.removeprefix(str(videos)) for path in local["path"]
        ]
    one = next(videos.rglob("*.mp4"))
    cache.hold(f"{bucket.put(one.parent, 'again')}/{one.name}").close()  # the bound holds again once nothing is in use
    left = sum(path.stat().st_size for path in cache.here.glob("*/*"))
    assert 0 < left <= cache.limit_bytes


def test_a_server_that_is_away_stops_the_stream_with_a_line(datasets_file: Path, tmp_path: Path) -> None:
    here = index(datasets_file.parent / "videos")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        source = pretrain(Manifest(here.table, Remote(f"http://127.0.0.1:{taken.getsockname()[1]}"), here.classes))
        batches = stream(Reached(source, {}), ROWS, options(source, Cache(tmp_path / "cache"), 1))
        with pytest.raises(UserError, match="mp4 cannot be read, 2 times in a row: ClientConnectorError"):
            next(batches)
