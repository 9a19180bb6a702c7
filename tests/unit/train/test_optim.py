import pytest
import torch
from torch import nn

from vjepa_exp.train.optim import build_optimizer, clip_gradients, ema_update, set_schedule
from vjepa_models.encoder import EncoderConfig, VideoEncoder
from vjepa_models.predictor import Predictor, PredictorConfig

ENCODER = EncoderConfig(24, 1, 2, 2.0, num_frames=2, resolution=16, patch_size=8)
PREDICTOR = PredictorConfig(context_dim=24, out_dim=24, grid=ENCODER.grid, embed_dim=12, depth=1, num_heads=2)


def networks() -> tuple[VideoEncoder, Predictor]:
    return VideoEncoder(ENCODER, seed=1), Predictor(PREDICTOR, seed=1)


def linear_with_gradient(scale: float) -> nn.Linear:
    linear = nn.Linear(3, 3)
    for parameter in linear.parameters():
        parameter.grad = torch.full_like(parameter, scale)
    return linear


def test_groups_stand_in_the_released_order() -> None:
    encoder, predictor = networks()
    optimizer = build_optimizer([encoder, predictor], (0.9, 0.999), 1e-8)
    names = {p: f"{kind}.{name}" for kind, m in (("e", encoder), ("p", predictor)) for name, p in m.named_parameters()}
    groups = [[names[p] for p in group["params"]] for group in optimizer.param_groups]
    assert [{name[0] for name in group} for group in groups] == [{"e"}, {"p"}, {"e"}, {"p"}]
    assert groups[0][0] == "e.pos_embed"
    assert {"p.mask_tokens.0", "p.predictor_pos_embed", "p.predictor_proj.weight"} <= set(groups[1])
    assert sum(map(len, groups)) == len(names)
    assert all(name.endswith("bias") or "norm" in name for group in groups[2:] for name in group)
    assert not any(name.endswith("bias") or "norm" in name for group in groups[:2] for name in group)


def test_the_released_vit_large_has_its_parameter_counts_per_group() -> None:
    encoder = VideoEncoder(EncoderConfig(1024, 24, 16, 4.0, num_frames=16, resolution=224), device="meta")
    predictor = Predictor(PredictorConfig(context_dim=1024, out_dim=1024, grid=encoder.config.grid), device="meta")
    optimizer = build_optimizer([encoder, predictor], (0.9, 0.999), 1e-8)
    assert [len(group["params"]) for group in optimizer.param_groups] == [98, 53, 195, 100]


def test_decay_shrinks_weights_and_mask_tokens_but_neither_biases_nor_norms() -> None:
    encoder, predictor = networks()
    for module in (encoder, predictor):
        for parameter in module.parameters():
            parameter.data.fill_(1.0)
            if parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)
    optimizer = build_optimizer([encoder, predictor], (0.9, 0.999), 1e-8)
    set_schedule(optimizer, lr=0.1, weight_decay=0.5)
    optimizer.step()
    for decayed in (encoder.patch_embed.proj.weight, predictor.mask_tokens[0]):
        torch.testing.assert_close(decayed, torch.full_like(decayed, 0.95))
    for kept in (encoder.norm.weight, encoder.patch_embed.proj.bias, encoder.pos_embed, predictor.predictor_pos_embed):
        assert torch.all(kept == 1)


def test_gradients_are_scaled_to_the_norm_and_their_old_norm_returned() -> None:
    linear = linear_with_gradient(2.0)
    norm = clip_gradients(linear, max_norm=1.0)
    assert norm.item() == pytest.approx(2 * 12**0.5)
    assert clip_gradients(linear, None).item() == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize("max_norm", [None, 100.0])
def test_small_gradients_stay_as_they_are(max_norm: float | None) -> None:
    linear = linear_with_gradient(2.0)
    clip_gradients(linear, max_norm)
    assert all(torch.all(p.grad == 2) for p in linear.parameters() if p.grad is not None)


def test_ema_moves_every_parameter_and_leaves_equal_ones_exactly_alone() -> None:
    target, source = VideoEncoder(ENCODER, seed=1), VideoEncoder(ENCODER, seed=2)
    before = {name: p.clone() for name, p in target.named_parameters()}
    for _ in range(3):
        ema_update(target, source, momentum=0.9)
    for name, parameter in target.named_parameters():
        mixed = 0.9**3 * before[name] + (1 - 0.9**3) * dict(source.named_parameters())[name]
        torch.testing.assert_close(parameter, mixed, atol=1e-6, rtol=0)
    assert torch.equal(target.pos_embed, before["pos_embed"])
