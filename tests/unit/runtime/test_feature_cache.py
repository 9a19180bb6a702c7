"""Kept features on the disk: what is written is read, and what is damaged or cannot be written is said."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from vjepa_exp.data.index import index
from vjepa_exp.evals.coverage import Unreadable
from vjepa_exp.graph.stage import Stage
from vjepa_exp.runtime import feature_cache
from vjepa_exp.runtime.feature_cache import features_name, passing, read_features, write_features
from vjepa_exp.spec.data import ClipSpec
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.evaluate import AttentiveProbe
from vjepa_exp.spec.model import ModelSpec
from vjepa_exp.spec.stages import ProbeRecipe
from vjepa_exp.train.features import Features
from vjepa_exp.train.world import World

CPU = torch.device("cpu")
FEATURES = Features(
    torch.tensor([0, 2]),
    torch.randn(2, 1, 3, 4).to(torch.bfloat16),
    torch.tensor([1, 0]),
    (Unreadable("clip é.mp4", "truncated: no frames", "clips"),),
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_features(tmp_path / "kept.safetensors", FEATURES)
    again = read_features(tmp_path / "kept.safetensors", CPU)
    assert again.unreadable == FEATURES.unreadable
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(again[:3], FEATURES[:3], strict=True))
    assert again.tokens.dtype == torch.bfloat16
    assert [path.name for path in tmp_path.iterdir()] == ["kept.safetensors"]


@pytest.mark.parametrize("length", [0, 100])
def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path, length: int) -> None:
    file = tmp_path / "kept.safetensors"
    write_features(file, FEATURES)
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(UserError, match=r"kept.safetensors cannot be read \(.*\): delete the file"):
        read_features(file, CPU)


def test_a_place_that_cannot_be_written_costs_time_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_features(tmp_path / "absent" / "kept.safetensors", FEATURES)
    assert "features are not kept" in caplog.text
    assert not list(tmp_path.iterdir())


def probe(dataset: str = "demo_motion", digest: str = "family", seed: int = 0, **changes: Any) -> Stage:
    spec = AttentiveProbe(kind="attentive_probe", dataset=dataset, **{"clip": ClipSpec(), **changes})
    digests = {"demo_motion": digest, "demo_appearance": digest}
    recipe = ProbeRecipe(seed=seed, model=ModelSpec(), encoder="random_init", probe=spec, digests=digests)
    return Stage("probe", dataset, recipe)


def test_only_what_gives_the_same_features_shares_a_file() -> None:
    name = features_name(probe(), "val", 1)
    assert name == features_name(probe(label_fraction=0.1), "val", 1)
    others = [
        features_name(probe("demo_appearance"), "val", 1),  # demo sets of a family have one digest
        features_name(probe(digest="another"), "val", 1),
        features_name(probe(seed=1), "val", 1),
        features_name(probe(clips=2), "val", 1),
        features_name(probe(clip=ClipSpec(num_frames=4)), "val", 1),
        features_name(probe(precision="fp32"), "val", 1),
        features_name(probe(), "train", 1),
        features_name(probe(), "val", 3),
    ]
    assert len({name, *others}) == 1 + len(others)


def test_what_may_be_readable_the_next_time_is_told_from_what_the_index_knows(tmp_path: Path) -> None:
    for name in ("bad.png", "worse.png"):
        (tmp_path / name).write_bytes(b"no picture")
    Image.new("RGB", (8, 8)).save(tmp_path / "away.png")
    manifest = index(tmp_path)
    known = [Unreadable(path, reason) for path, reason in manifest.unreadable()]
    assert str(tmp_path / "bad.png") in {one.path for one in known}
    away = [Unreadable(str(tmp_path / "away.png"), reason) for reason in ("open: No such file", "timeout: 60 s")]
    corrupt = Unreadable(str(tmp_path / "good.mp4"), "corrupt: 3 of 16 frames")
    assert passing([*known, *away, corrupt], manifest) == away


def test_who_wants_features_that_are_being_made_waits_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_cache, "WAIT_S", 0.01)
    world, file, events = World(0, 1, CPU), tmp_path / "new" / "kept.safetensors", list[str]()

    def second() -> None:
        with feature_cache._one_at_a_time(file, world):
            events.append("second")

    with feature_cache._one_at_a_time(file, world):
        waiting = threading.Thread(target=second)
        waiting.start()
        waiting.join(timeout=0.2)
        assert waiting.is_alive()
        events.append("first")
    waiting.join(timeout=60)
    assert events == ["first", "second"]
