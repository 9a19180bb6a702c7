from dataclasses import replace

import pytest
import torch
from einops import rearrange

from vjepa_models.archs import ARCHS
from vjepa_models.encoder import EncoderConfig, VideoEncoder, tubelets
from vjepa_models.layers import gather_tokens
from vjepa_models.positions import position_table

TINY = EncoderConfig(
    embed_dim=48, depth=3, num_heads=3, mlp_ratio=2.0, num_frames=4, resolution=32, patch_size=8, tubelet_size=2
)


def clips(num_frames: int = 4, height: int = 32, width: int = 32) -> torch.Tensor:
    return torch.randn(2, 3, num_frames, height, width, generator=torch.Generator().manual_seed(1))


def named(arch: str, resolution: int = 224) -> VideoEncoder:
    a = ARCHS[arch]
    config = EncoderConfig(a.embed_dim, a.depth, a.num_heads, a.mlp_ratio, num_frames=16, resolution=resolution)
    return VideoEncoder(config, device="meta")


@pytest.mark.parametrize(
    ("arch", "millions"),
    [
        ("vit_tiny", 5.63),
        ("vit_small", 21.88),
        ("vit_base", 86.24),
        ("vit_large", 303.89),
        ("vit_huge", 631.65),
        ("vit_giant", 1012.17),
    ],
)
def test_trainable_parameters_of_the_named_sizes(arch: str, millions: float) -> None:
    trainable = sum(p.numel() for p in named(arch).parameters() if p.requires_grad)
    assert trainable / 1e6 == pytest.approx(millions, abs=0.005)


def test_keys_and_shapes_of_the_released_vit_large() -> None:
    state = named("vit_large").state_dict()
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    expected = {
        "pos_embed": (1, 1568, 1024),
        "patch_embed.proj.weight": (1024, 3, 2, 16, 16),
        "patch_embed.proj.bias": (1024,),
        "norm.weight": (1024,),
        "norm.bias": (1024,),
    }
    for i in range(24):
        for layer, shape in (
            ("norm1", (1024,)),
            ("attn.qkv", (3072, 1024)),
            ("attn.proj", (1024, 1024)),
            ("norm2", (1024,)),
            ("mlp.fc1", (4096, 1024)),
            ("mlp.fc2", (1024, 4096)),
        ):
            expected[f"blocks.{i}.{layer}.weight"] = shape
            expected[f"blocks.{i}.{layer}.bias"] = shape[:1]
    assert shapes == expected
    assert len(shapes) == 293
    trainable = sum(p.numel() for p in named("vit_large").parameters() if p.requires_grad)
    assert trainable == 303_885_312
    assert named("vit_huge", 384).pos_embed.shape == (1, 4608, 1280)


def test_kept_tokens_are_those_of_a_network_that_embeds_everything_first() -> None:
    encoder = VideoEncoder(TINY, seed=3)
    keep = torch.tensor([[0, 5, 17, 31], [2, 3, 4, 30]])
    x = gather_tokens(encoder.patch_embed(clips()) + encoder.pos_embed, keep)
    for block in encoder.blocks:
        x = block(x)
    torch.testing.assert_close(encoder(clips(), keep), encoder.norm(x), atol=1e-5, rtol=0)


def test_keeping_every_token_gives_the_features_of_the_whole_clip() -> None:
    encoder = VideoEncoder(TINY, seed=3)
    everything = torch.arange(TINY.num_tokens).expand(2, -1)
    torch.testing.assert_close(encoder(clips(), everything), encoder(clips()), atol=1e-5, rtol=0)


def test_layers_are_normalised_outputs_of_those_blocks() -> None:
    encoder = VideoEncoder(TINY, seed=3)
    first, last = encoder(clips(), layers=[0, 2])
    torch.testing.assert_close(last, encoder(clips()))
    x = encoder.blocks[0](encoder.patch_embed(clips()) + encoder.pos_embed)
    torch.testing.assert_close(first, encoder.norm(x))


def test_tubelets_run_x_fastest_and_hold_channel_frame_row_column() -> None:
    x = clips()
    cut = tubelets(x, tubelet_size=2, patch_size=8)
    t, y, column = 1, 2, 3
    one = x[:, :, 2:4, 16:24, 24:32]
    assert torch.equal(cut[:, (t * 4 + y) * 4 + column], one.flatten(1))


def test_a_clip_of_another_size_stretches_the_table() -> None:
    encoder = VideoEncoder(TINY, seed=3)
    bigger = clips(num_frames=8, height=40, width=48)
    assert encoder(bigger).shape == (2, 4 * 5 * 6, 48)
    # The table is stretched, not computed anew for the new grid.
    fresh = VideoEncoder(TINY, seed=3)
    fresh.pos_embed.data = position_table(48, (4, 5, 6), uniform_power=True)
    x = fresh.patch_embed(bigger) + fresh.pos_embed
    for block in fresh.blocks:
        x = block(x)
    assert (encoder(bigger) - fresh.norm(x)).abs().max() > 0.01


def test_one_tubelet_of_a_still_clip_stands_for_all_only_without_positions_in_time() -> None:
    whole, short = VideoEncoder(TINY, seed=3), VideoEncoder(replace(TINY, num_frames=2), seed=3)
    still = clips(num_frames=1).repeat(1, 1, 4, 1, 1)
    tokens_BTKD = rearrange(whole(still), "b (t k) d -> b t k d", t=2)
    assert (tokens_BTKD[:, 0] - tokens_BTKD[:, 1]).abs().max() > 0.01
    assert (tokens_BTKD[:, 0] - short(still[:, :, :2])).abs().max() > 0.01
    whole.pos_embed.data = short.pos_embed.repeat(1, 2, 1)
    tokens_BTKD = rearrange(whole(still), "b (t k) d -> b t k d", t=2)
    for t in range(2):  # attention over equal copies is attention over one
        torch.testing.assert_close(tokens_BTKD[:, t], short(still[:, :, :2]), rtol=0, atol=1e-5)


def test_weights_are_a_function_of_the_seed_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = VideoEncoder(TINY, seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    second = VideoEncoder(TINY, seed=3).state_dict()
    third = VideoEncoder(TINY, seed=4).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["blocks.1.attn.qkv.weight"], third["blocks.1.attn.qkv.weight"])
    assert not torch.equal(first["blocks.1.mlp.fc1.weight"], first["blocks.2.mlp.fc1.weight"])


def test_every_weight_starts_with_one_standard_deviation_at_every_depth() -> None:
    encoder = VideoEncoder(TINY, seed=3)
    for name, parameter in encoder.named_parameters():
        if "norm" in name:
            assert torch.all(parameter == (1 if name.endswith("weight") else 0)), name
        elif name.endswith("bias"):
            assert torch.all(parameter == 0), name
        elif name != "pos_embed":
            assert parameter.detach().std().item() == pytest.approx(0.02, rel=0.06), name
            assert parameter.detach().mean().item() == pytest.approx(0, abs=0.0015), name


@pytest.mark.parametrize(
    ("change", "message"),
    [({"num_heads": 5}, "num_heads 5"), ({"resolution": 30}, "patch_size 8"), ({"num_frames": 5}, "tubelet_size 2")],
)
def test_sizes_that_do_not_divide_are_refused(change: dict[str, int], message: str) -> None:
    sizes = {"embed_dim": 48, "depth": 1, "num_heads": 3, "mlp_ratio": 2.0, "num_frames": 4, "resolution": 32}
    with pytest.raises(ValueError, match=message):
        EncoderConfig(**{**sizes, "patch_size": 8, **change})
