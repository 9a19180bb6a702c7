"""`verify` against golden numbers of a second, independent implementation, in sizes the shared set does not have."""

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vjepa_exp.spec.errors import UserError
from vjepa_exp.train.verify import verify

SETTINGS: dict[str, Any] = {
    "embed_dim": 32,
    "depth": 2,
    "num_heads": 2,
    "mlp_ratio": 3,
    "predictor_embed_dim": 24,
    "predictor_depth": 1,
    "predictor_num_heads": 3,
    "crop_size": 32,
    "patch_size": 8,
    "num_frames": 6,
    "tubelet_size": 3,
    "batch_size": 2,
    "uniform_power": False,
    "masks": [{}, {}, {}],
    "steps": 4,
    "num_classes": 5,
    "layer_norm_eps": 1e-6,
    "optimiser": {
        "start_lr": 2e-4,
        "lr": 1e-3,
        "final_lr": 1e-6,
        "weight_decay": 0.04,
        "final_weight_decay": 0.4,
        "betas": [0.9, 0.99],
        "eps": 1e-8,
        "iterations_per_epoch": 3,
        "epochs": 2,
        "warmup_epochs": 1,
        "schedule_scale": 1.25,
        "ema": [0.9, 1.0],
    },
}


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A golden folder with three masks, tubelets of three frames and `uniform_power: false`."""
    path = Path(__file__).with_name("second_formula.py")
    spec = importlib.util.spec_from_file_location("second_formula", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("golden")
    module.write_golden(folder, SETTINGS)
    return folder


@pytest.fixture
def copy(golden: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(golden, tmp_path / "golden"))


def change(folder: Path, **arrays: Any) -> None:
    """Rewrite golden.npz with other arrays; None drops one."""
    with np.load(folder / "golden.npz") as stored:
        kept = {**stored, **arrays}
    np.savez(folder / "golden.npz", **{name: value for name, value in kept.items() if value is not None})


def test_a_second_implementation_agrees_in_everything(golden: Path) -> None:
    rows = verify(golden / "checkpoint.pth.tar", golden)
    assert [row for row in rows if not row.ok] == []
    first_step = {f"{kind}_{i}" for kind in ("context_features", "predictions", "targets") for i in range(3)}
    assert {row.name for row in rows} == first_step | {
        "target_features",
        "probe_logits",
        "loss",
        "lr",
        "weight_decay",
        "momentum",
        "grad_norm",
        "target_features_after",
        "encoder_features_after",
    }


@pytest.mark.parametrize("name", ["predictions_1", "momentum", "target_features_after", "probe_logits"])
def test_a_difference_shows_in_its_row_only(copy: Path, name: str) -> None:
    with np.load(copy / "golden.npz") as stored:
        wrong = stored[name].copy()
    wrong.flat[-1] += 0.01
    change(copy, **{name: wrong})
    failed = [row for row in verify(copy / "checkpoint.pth.tar", copy) if not row.ok]
    assert [row.name for row in failed] == [name]
    assert failed[0].max_abs_diff == pytest.approx(0.01, rel=0.01)


def test_not_a_number_and_another_shape_are_no_agreement(copy: Path) -> None:
    change(copy, lr=np.full(4, np.nan), loss=np.zeros(3))
    failed = {row.name for row in verify(copy / "checkpoint.pth.tar", copy) if not row.ok}
    assert failed == {"lr", "loss"}


def test_what_a_set_does_not_hold_is_not_compared(copy: Path) -> None:
    change(copy, probe_logits=None, targets_0=None, grad_norm=None)
    (copy / "probe.pth.tar").unlink()
    names = {row.name for row in verify(copy / "checkpoint.pth.tar", copy)}
    assert names.isdisjoint({"probe_logits", "targets_0", "grad_norm"})
    assert {"target_features", "targets_1", "loss"} <= names


def test_a_set_without_training_needs_no_masks(copy: Path) -> None:
    with np.load(copy / "golden.npz") as stored:
        features_only = {"clips", "target_features", "probe_logits"}
        change(copy, **{name: None for name in stored if name not in features_only})
    rows = verify(copy / "checkpoint.pth.tar", copy)
    assert [row.name for row in rows] == ["target_features", "probe_logits"]


def test_mistakes_are_told_in_one_line(copy: Path) -> None:
    checkpoint = copy / "checkpoint.pth.tar"
    with pytest.raises(UserError, match="no such file"):
        verify(copy / "absent", copy)
    stored = torch.load(checkpoint, weights_only=True)
    del stored["predictor"]["module.backbone.predictor_norm.bias"]
    torch.save(stored, copy / "short.pth.tar")
    with pytest.raises(UserError, match=r"predictor does not fit the model: 1 missing: predictor_norm.bias"):
        verify(copy / "short.pth.tar", copy)
    (copy / "probe.pth.tar").unlink()
    with pytest.raises(UserError, match=r"probe\.pth\.tar: no such file"):
        verify(checkpoint, copy)
    (copy / "config.json").write_text(json.dumps({key: SETTINGS[key] for key in SETTINGS if key != "depth"}))
    with pytest.raises(UserError, match="lacks 'depth'"):
        verify(checkpoint, copy)
    (copy / "config.json").write_text(json.dumps({**SETTINGS, "num_heads": 5}))
    with pytest.raises(UserError, match="embed_dim 32 is not divisible by num_heads 5"):
        verify(checkpoint, copy)
    (copy / "golden.npz").write_bytes((copy / "golden.npz").read_bytes()[:1000])
    with pytest.raises(UserError, match="not a folder of golden numbers"):
        verify(checkpoint, copy)
    (copy / "config.json").unlink()
    with pytest.raises(UserError, match="not a folder of golden numbers"):
        verify(checkpoint, copy)
