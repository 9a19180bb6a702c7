"""The checkpoint, the networks and the training step agree with the golden numbers of the reference implementation."""

from pathlib import Path

import pytest
import torch

from vjepa_exp.train.verify import verify
from vjepa_models.positions import position_table
from vjepa_models.zoo.vjepa import read_pretrained, write_pretrained

COMPARED = {
    "target_features",
    "target_features_interpolated",
    "probe_logits",
    "loss",
    "lr",
    "weight_decay",
    "momentum",
    "grad_norm",
    "target_features_after",
    "encoder_features_after",
}


@pytest.fixture(scope="module")
def golden_dirs(shared_dir: Path) -> list[Path]:
    """Every golden set that is present."""
    dirs = sorted(path.parent for path in (shared_dir / "parity").glob("*/golden.npz"))
    if not dirs:
        pytest.skip(f"no golden sets in {shared_dir / 'parity'}")
    return dirs


def test_everything_agrees(golden_dirs: list[Path]) -> None:
    for folder in golden_dirs:
        rows = verify(folder / "checkpoint.pth.tar", folder)
        assert [row for row in rows if not row.ok] == []
        assert {row.name for row in rows} >= COMPARED
        assert any(row.name == "predictions_0" for row in rows)


def test_an_exported_checkpoint_agrees_like_the_one_it_was_read_from(golden_dirs: list[Path], tmp_path: Path) -> None:
    folder = golden_dirs[0]
    path = tmp_path / "exported.pth.tar"
    write_pretrained(path, read_pretrained(folder / "checkpoint.pth.tar", num_heads=3))
    assert verify(path, folder) == verify(folder / "checkpoint.pth.tar", folder)


def test_sizes_and_position_table_are_inferred_from_the_file(golden_dirs: list[Path]) -> None:
    model = read_pretrained(golden_dirs[0] / "checkpoint.pth.tar", num_heads=3)
    config = model.encoder.config
    assert (config.embed_dim, config.depth, config.grid, config.uniform_power) == (96, 3, (4, 6, 6), True)
    assert (model.predictor.config.embed_dim, model.predictor.config.depth) == (48, 2)
    table = position_table(config.embed_dim, config.grid, config.uniform_power)
    torch.testing.assert_close(model.encoder.pos_embed.detach(), table, atol=1e-6, rtol=0)
