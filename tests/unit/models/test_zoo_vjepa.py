from pathlib import Path
from pickle import PicklingError

import pytest
import torch

from vjepa_models.encoder import EncoderConfig, VideoEncoder
from vjepa_models.positions import position_table
from vjepa_models.predictor import Predictor, PredictorConfig
from vjepa_models.probes import AttentiveProbe
from vjepa_models.zoo.vjepa import (
    CheckpointError,
    PretrainedModel,
    infer_encoder_config,
    load_for_size,
    load_strict,
    read_checkpoint,
    read_pretrained,
    read_probe,
    write_pretrained,
    write_probe,
)

ENCODER = EncoderConfig(
    embed_dim=48, depth=2, num_heads=3, mlp_ratio=2.5, num_frames=6, resolution=32, patch_size=8, uniform_power=False
)
PREDICTOR = PredictorConfig(
    context_dim=48,
    out_dim=48,
    grid=ENCODER.grid,
    embed_dim=24,
    depth=2,
    num_heads=3,
    mlp_ratio=2.0,
    num_mask_tokens=3,
    uniform_power=False,
)


def model() -> PretrainedModel:
    return PretrainedModel(
        VideoEncoder(ENCODER, seed=1), Predictor(PREDICTOR, seed=1), VideoEncoder(ENCODER, seed=2), {"epoch": 7}
    )


def test_a_pretrained_model_comes_back_with_its_sizes_and_weights(tmp_path: Path) -> None:
    path = tmp_path / "model.pth.tar"
    write_pretrained(path, model())
    read = read_pretrained(path, num_heads=3)
    assert read.encoder.config == ENCODER
    assert read.predictor.config == PREDICTOR
    assert read.metadata["epoch"] == 7
    for name in ("encoder", "predictor", "target_encoder"):
        ours, theirs = getattr(model(), name).state_dict(), getattr(read, name).state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert not torch.equal(read.encoder.blocks[0].mlp.fc1.weight, read.target_encoder.blocks[0].mlp.fc1.weight)


def test_the_written_file_has_the_released_keys(tmp_path: Path) -> None:
    write_pretrained(tmp_path / "model.pth.tar", model())
    write_probe(tmp_path / "probe.pth.tar", AttentiveProbe(48, 3, 5), {"epoch": 20})
    stored = torch.load(tmp_path / "model.pth.tar", weights_only=True)
    released = {"encoder", "predictor", "target_encoder", "opt", "scaler"}
    assert stored.keys() == released | {"epoch", "loss", "batch_size", "world_size", "lr"}
    assert all(key.startswith("module.backbone.") for key in stored["encoder"])
    assert "module.backbone.mask_tokens.2" in stored["predictor"]
    probe = torch.load(tmp_path / "probe.pth.tar", weights_only=True)
    assert probe["epoch"] == 20
    assert "module.pooler.cross_attention_block.xattn.kv.weight" in probe["classifier"]


def test_a_table_moved_by_the_ema_still_tells_its_grid() -> None:
    for uniform_power in (True, False):
        config = EncoderConfig(48, 1, 3, 4.0, num_frames=8, resolution=48, patch_size=8, uniform_power=uniform_power)
        state = VideoEncoder(config).state_dict()
        state["pos_embed"] += 7e-5
        inferred = infer_encoder_config(state, num_heads=3)
        assert (inferred.grid, inferred.uniform_power) == ((4, 6, 6), uniform_power)


def test_named_sizes_tell_their_heads_and_others_ask_for_them() -> None:
    config = EncoderConfig(192, 12, 3, 4.0, num_frames=2, resolution=32)
    assert infer_encoder_config(VideoEncoder(config).state_dict()) == config
    with pytest.raises(CheckpointError, match="width 48 and depth 2: give the number of heads"):
        infer_encoder_config(model().encoder.state_dict())


def test_a_hidden_width_whose_quotient_rounds_down_is_kept() -> None:
    encoder = VideoEncoder(EncoderConfig(28, 1, 2, 2.2, num_frames=2, resolution=16, patch_size=8))
    state = encoder.state_dict()
    assert state["blocks.0.mlp.fc1.weight"].shape[0] == 61
    load_strict(VideoEncoder(infer_encoder_config(state, num_heads=2)), state, "encoder")


def test_a_probe_comes_back(tmp_path: Path) -> None:
    probe = AttentiveProbe(48, 3, 5, seed=4, depth=2, mlp_ratio=2.0)
    write_probe(tmp_path / "probe.pth.tar", probe)
    read = read_probe(tmp_path / "probe.pth.tar", num_heads=3)
    x = torch.randn(2, 7, 48, generator=torch.Generator().manual_seed(0))
    assert torch.equal(probe(x), read(x))


def test_loading_for_another_clip_size_takes_the_fresh_table() -> None:
    stored = model().encoder.state_dict()
    bigger = EncoderConfig(48, 2, 3, 2.5, num_frames=8, resolution=48, patch_size=8, uniform_power=False)
    encoder = VideoEncoder(bigger, seed=9)
    load_for_size(encoder, stored, "encoder")
    assert torch.equal(encoder.blocks[1].attn.qkv.weight, stored["blocks.1.attn.qkv.weight"])
    assert torch.equal(encoder.pos_embed, position_table(48, (4, 6, 6), uniform_power=False))


def test_what_does_not_fit_is_named() -> None:
    state = dict(model().encoder.state_dict())
    state["extra.weight"] = state.pop("norm.weight")
    state["norm.bias"] = torch.zeros(7)
    with pytest.raises(CheckpointError) as error:
        load_strict(VideoEncoder(ENCODER), state, "enc")
    text = str(error.value)
    assert text.startswith("enc does not fit the model: ")
    assert "1 missing: norm.weight" in text
    assert "1 unexpected: extra.weight" in text
    assert "1 of another shape: norm.bias ([7], here [48])" in text


def test_files_that_are_no_checkpoints_are_refused_in_one_line(tmp_path: Path) -> None:
    text = tmp_path / "text.pth.tar"
    text.write_text("not a checkpoint")
    empty = tmp_path / "empty.pth.tar"
    empty.touch()
    a_list = tmp_path / "list.pth.tar"
    torch.save([1, 2], a_list)
    code = tmp_path / "code.pth.tar"
    torch.save({"encoder": print}, code)
    for path in (text, empty, a_list, code, tmp_path / "absent"):
        with pytest.raises(CheckpointError, match=path.name) as error:
            read_checkpoint(path)
        assert "\n" not in str(error.value)
    other = tmp_path / "other.pth.tar"
    torch.save({"weights": {}}, other)
    with pytest.raises(CheckpointError, match=r"holds no 'encoder' \(it has: weights\)"):
        read_pretrained(other)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "model.pth.tar"
    write_pretrained(path, model())
    before = path.read_bytes()
    with pytest.raises((AttributeError, PicklingError)):  # by the version of Python
        write_pretrained(path, model(), optimiser={"unpicklable": lambda: None})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.pth.tar"]
