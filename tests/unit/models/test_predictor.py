import pytest
import torch

from vjepa_models.layers import normal_
from vjepa_models.predictor import Predictor, PredictorConfig

TINY = PredictorConfig(context_dim=32, out_dim=20, grid=(2, 3, 3), embed_dim=24, depth=2, num_heads=2)


def tiny() -> Predictor:
    """A predictor with mask tokens that differ, as after training."""
    predictor = Predictor(TINY, seed=5)
    with torch.no_grad():
        for i, token in enumerate(predictor.mask_tokens):
            normal_(token, seed=5, purpose=f"token {i}", std=0.5)
    return predictor


CONTEXT = torch.randn(2, 4, 32, generator=torch.Generator().manual_seed(0))
CONTEXT_INDEX = torch.tensor([[0, 3, 8, 17], [1, 2, 10, 11]])
TARGET_INDEX = torch.tensor([[1, 2, 4], [0, 5, 16]])


def test_keys_and_parameters_of_the_released_predictor() -> None:
    config = PredictorConfig(context_dim=1024, out_dim=1024, grid=(8, 14, 14))
    predictor = Predictor(config, device="meta")
    state = predictor.state_dict()
    assert len(state) == 153
    assert sum(p.numel() for p in predictor.parameters() if p.requires_grad) == 22_082_944
    shapes = {
        "predictor_pos_embed": (1, 1568, 384),
        "predictor_embed.weight": (384, 1024),
        "mask_tokens.0": (1, 1, 384),
        "mask_tokens.1": (1, 1, 384),
        "predictor_blocks.11.attn.qkv.weight": (1152, 384),
        "predictor_blocks.11.mlp.fc1.weight": (1536, 384),
        "predictor_norm.weight": (384,),
        "predictor_proj.weight": (1024, 384),
    }
    assert {key: tuple(state[key].shape) for key in shapes} == shapes


def test_one_prediction_per_target_of_the_configured_width() -> None:
    assert tiny()(CONTEXT, CONTEXT_INDEX, TARGET_INDEX, 0).shape == (2, 3, 20)


def test_the_order_of_context_tokens_means_nothing() -> None:
    order = torch.tensor([2, 0, 3, 1])
    ordered = tiny()(CONTEXT, CONTEXT_INDEX, TARGET_INDEX, 0)
    shuffled = tiny()(CONTEXT[:, order], CONTEXT_INDEX[:, order], TARGET_INDEX, 0)
    torch.testing.assert_close(ordered, shuffled, atol=1e-6, rtol=0)


def test_the_place_of_a_context_token_matters() -> None:
    moved = CONTEXT_INDEX.clone()
    moved[:, 0] = 13
    before = tiny()(CONTEXT, CONTEXT_INDEX, TARGET_INDEX, 0)
    assert (before - tiny()(CONTEXT, moved, TARGET_INDEX, 0)).abs().max() > 1e-4


def test_each_mask_configuration_has_its_own_token() -> None:
    predictor = tiny()
    first, second = (predictor(CONTEXT, CONTEXT_INDEX, TARGET_INDEX, i) for i in range(2))
    assert (first - second).abs().max() > 1e-4
    second.sum().backward()
    assert predictor.mask_tokens[0].grad is None
    assert predictor.mask_tokens[1].grad is not None


def test_mask_tokens_start_at_zero_and_the_rest_is_a_function_of_the_seed() -> None:
    a, b, c = Predictor(TINY, seed=1), Predictor(TINY, seed=1), Predictor(TINY, seed=2)
    assert all(torch.all(token == 0) for token in a.mask_tokens)
    assert torch.equal(a.predictor_embed.weight, b.predictor_embed.weight)
    assert not torch.equal(a.predictor_embed.weight, c.predictor_embed.weight)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="width 24 is not divisible by its 5 heads"):
        PredictorConfig(context_dim=8, out_dim=8, grid=(1, 1, 1), embed_dim=24, num_heads=5)
