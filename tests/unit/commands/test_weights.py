"""Weights in and out: nothing is lost on the way, and what is no checkpoint is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vjepa_exp.commands import weights
from vjepa_exp.spec.errors import UserError
from vjepa_models.encoder import EncoderConfig, VideoEncoder
from vjepa_models.predictor import Predictor, PredictorConfig
from vjepa_models.probes import AttentiveProbe
from vjepa_models.zoo.vjepa import PretrainedModel, write_pretrained, write_probe


@pytest.fixture
def released(tmp_path: Path) -> Path:
    config = EncoderConfig(48, 2, 4, 4.0, num_frames=4, resolution=32)
    predictor = Predictor(PredictorConfig(48, 48, config.grid, embed_dim=24, depth=1, num_heads=4))
    model = PretrainedModel(VideoEncoder(config, 1), predictor, VideoEncoder(config, 2), {"epoch": 3, "lr": 0.5})
    write_pretrained(tmp_path / "released.pth.tar", model)
    return tmp_path / "released.pth.tar"


def same(a: Path, b: Path) -> bool:
    """Whether two checkpoints hold the same tensors under the same keys."""
    ours, theirs = (torch.load(path, weights_only=True) for path in (a, b))
    networks = {name for name, value in theirs.items() if isinstance(value, dict)}
    assert networks
    return all(
        ours[n].keys() == theirs[n].keys() and all(torch.equal(ours[n][k], theirs[n][k]) for k in theirs[n])
        for n in networks
    )


@pytest.mark.parametrize("num_heads", [None, 4])
def test_import_and_export_give_the_same_checkpoint(released: Path, tmp_path: Path, num_heads: int | None) -> None:
    weights.import_file(released, tmp_path / "imported", num_heads)
    weights.export(str(tmp_path / "imported"), tmp_path / "out.pth.tar", tmp_path / "runs")
    assert same(tmp_path / "out.pth.tar", released)
    assert torch.load(tmp_path / "out.pth.tar", weights_only=True)["epoch"] == 3


def test_probe_goes_the_same_way(tmp_path: Path) -> None:
    probe = tmp_path / "probe.pth.tar"
    write_probe(probe, AttentiveProbe(48, 4, 7, seed=1, depth=2))
    weights.import_file(probe, tmp_path / "imported", None)
    weights.export(str(tmp_path / "imported"), tmp_path / "out.pth.tar", tmp_path / "runs")
    assert same(tmp_path / "out.pth.tar", probe)


def test_missing_tensor_is_named(released: Path, tmp_path: Path) -> None:
    content = torch.load(released, weights_only=True)
    del content["encoder"]["module.backbone.norm.bias"]
    torch.save(content, tmp_path / "short.pth.tar")
    with pytest.raises(UserError, match=r"missing.*norm\.bias"):
        weights.import_file(tmp_path / "short.pth.tar", tmp_path / "imported", None)
    assert not (tmp_path / "imported").exists()


def test_heads_must_divide_the_width(released: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="divisible"):
        weights.import_file(released, tmp_path / "imported", 5)


def test_text_file_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no weights")
    with pytest.raises(UserError, match="not a checkpoint"):
        weights.import_file(tmp_path / "notes.txt", tmp_path / "imported", None)


def test_export_names_the_stages_there_are(tmp_path: Path) -> None:
    stage = tmp_path / "runs" / "pretrain-small-12345678"
    stage.mkdir(parents=True)
    (stage / "record.json").write_text("{}")
    with pytest.raises(UserError, match="Did you mean 'pretrain-small-12345678'"):
        weights.export("pretrain-smal-12345678", tmp_path / "out.pth.tar", tmp_path / "runs")
