import pytest
import torch

from vjepa_models.objectives import (
    feature_targets,
    pixel_loss,
    pixel_targets,
    prediction_loss,
    prediction_std,
    variance_penalty,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_feature_targets_are_standardised_per_token_with_eps_1e_5() -> None:
    features = 3 + 0.01 * normal(2, 5, 16)
    centred = features - features.mean(-1, keepdim=True)
    expected = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(feature_targets(features), expected, atol=1e-4, rtol=0)


def test_exponent_one_is_the_mean_absolute_difference() -> None:
    predicted, target = normal(2, 3, 4), normal(2, 3, 4, seed=1)
    assert prediction_loss(predicted, target).item() == pytest.approx((predicted - target).abs().mean().item())


def test_other_exponents_are_divided_by_themselves() -> None:
    predicted, target = normal(2, 3, 4), normal(2, 3, 4, seed=1)
    loss = prediction_loss(predicted, target, exponent=2.0)
    assert loss.item() == pytest.approx(((predicted - target) ** 2).mean().item() / 2)


def test_pixel_targets_are_patches_with_mean_zero_and_unit_variance() -> None:
    clips = 5 + 2 * normal(2, 3, 4, 8, 12)
    targets = pixel_targets(clips, tubelet_size=2, patch_size=4)
    assert targets.shape == (2, 2 * 2 * 3, 3 * 2 * 16)
    torch.testing.assert_close(targets.mean(-1), torch.zeros(2, 12), atol=1e-5, rtol=0)
    torch.testing.assert_close(targets.var(-1), torch.ones(2, 12), atol=1e-4, rtol=0)
    last = clips[1, :, 2:4, 4:8, 8:12].flatten()
    torch.testing.assert_close(targets[1, 11], (last - last.mean()) / last.std(), atol=1e-4, rtol=0)


def test_a_flat_patch_has_flat_targets() -> None:
    assert torch.equal(pixel_targets(torch.ones(1, 3, 2, 4, 4), 2, 4), torch.zeros(1, 1, 96))


def test_pixel_loss_is_the_mean_squared_error() -> None:
    assert pixel_loss(torch.zeros(1, 2, 2), torch.tensor([[[1.0, 0.0], [0.0, 3.0]]])).item() == pytest.approx(2.5)


def test_collapse_shows_in_the_variance_penalty() -> None:
    collapsed = prediction_std(normal(2, 1, 8).expand(2, 50, 8))
    spread = prediction_std(2 * normal(2, 50, 8))
    assert variance_penalty(collapsed).item() == pytest.approx(0.99, abs=1e-3)
    assert variance_penalty(spread).item() == 0
