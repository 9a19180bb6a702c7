"""What is predicted and how it is scored: features of the target encoder, or pixels.

Legend: B batch, C T H W a clip, N tokens, M target tokens, D width, P values of a tubelet.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from vjepa_models.encoder import tubelets


def feature_targets(features_BND: Tensor) -> Tensor:
    """Target features normalised per token, without parameters, eps 1e-5 (released code; the paper does not say so)."""
    return F.layer_norm(features_BND, features_BND.shape[-1:], eps=1e-5)


def pixel_targets(clips_BCTHW: Tensor, tubelet_size: int, patch_size: int) -> Tensor:
    """Pixels of each tubelet normalised by its own mean and standard deviation, [B, N, P] (as in MAE; paper Table 1).

    Values of a tubelet are ordered channel, frame, row, column; the variance is unbiased, with 1e-6 added.
    """
    pixels_BNP = tubelets(clips_BCTHW, tubelet_size, patch_size)
    variance, mean = torch.var_mean(pixels_BNP, dim=-1, keepdim=True)
    return (pixels_BNP - mean) / (variance + 1e-6).sqrt()


def prediction_loss(predictions_BMD: Tensor, targets_BMD: Tensor, exponent: float = 1.0) -> Tensor:
    """mean |prediction - target|^q / q over batch, tokens and channels; q = 1 for features."""
    if exponent == 1.0:
        return F.l1_loss(predictions_BMD, targets_BMD)
    return (predictions_BMD - targets_BMD).abs().pow(exponent).mean() / exponent


def pixel_loss(predictions_BMP: Tensor, targets_BMP: Tensor) -> Tensor:
    """Mean squared error over batch, tokens and values."""
    return F.mse_loss(predictions_BMP, targets_BMP)


def prediction_std(predictions_BMD: Tensor) -> Tensor:
    """Standard deviation over the tokens of a clip, per sample and channel, [B, D] (unbiased, 1e-4 under the root)."""
    return (predictions_BMD.var(dim=1) + 1e-4).sqrt()


def variance_penalty(std_BD: Tensor) -> Tensor:
    """Mean shortfall of the standard deviation below 1: a collapse monitor (weight 0 in every released recipe)."""
    return F.relu(1 - std_BD).mean()
