"""The transformer block shared by encoder, predictor and probe, its initialisation, and token gathering.

Legend: B batch, N tokens, K selected tokens, D width, H heads, C channels per head.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vjepa_models.keyed_rng import keyed_seed


class Mlp(nn.Module):
    """Linear, exact GELU, Linear."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x_BND: Tensor) -> Tensor:
        """[B, N, D] -> [B, N, D]."""
        return self.fc2(F.gelu(self.fc1(x_BND)))


class SelfAttention(nn.Module):
    """Full bidirectional multi-head attention; rows of `qkv` are q, k, v, each split by head."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x_BND: Tensor) -> Tensor:
        """[B, N, D] -> [B, N, D]."""
        q, k, v = rearrange(self.qkv(x_BND), "b n (three h c) -> three b h n c", three=3, h=self.num_heads)
        y_BHNC = F.scaled_dot_product_attention(q, k, v)
        return self.proj(rearrange(y_BHNC, "b h n c -> b n (h c)"))


class Block(nn.Module):
    """Pre-norm transformer block, without dropout, layer scale or stochastic depth."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, layer_norm_eps: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=layer_norm_eps)
        self.attn = SelfAttention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=layer_norm_eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, x_BND: Tensor) -> Tensor:
        """[B, N, D] -> [B, N, D]."""
        x_BND = x_BND + self.attn(self.norm1(x_BND))
        return x_BND + self.mlp(self.norm2(x_BND))


def gather_tokens(x_BND: Tensor, index_BK: Tensor) -> Tensor:
    """Rows `index_BK` of each sample: [B, N, D] -> [B, K, D]."""
    return x_BND.gather(1, index_BK.unsqueeze(-1).expand(-1, -1, x_BND.shape[-1]))


@torch.no_grad()
def initialise(module: nn.Module, seed: int, purpose: str, std: float) -> None:
    """Weights normal with `std`, biases 0, LayerNorms 1 and 0, in place.

    The released pre-training draws every Linear with one standard deviation; its depth rescaling is overwritten there
    (method: encoder, init). Each tensor has a generator keyed by its own name, so a layer more changes no other layer.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, nn.LayerNorm):
            layer.weight.fill_(1)
            layer.bias.fill_(0)
        elif isinstance(layer, (nn.Linear, nn.Conv3d)):
            normal_(layer.weight, seed, f"{purpose}.{name}", std)
            if layer.bias is not None:
                layer.bias.fill_(0)


@torch.no_grad()
def normal_(tensor: Tensor, seed: int, purpose: str, std: float) -> None:
    """Fill with N(0, std) as a pure function of (seed, purpose); drawn on the CPU, so devices agree."""
    generator = torch.Generator().manual_seed(keyed_seed(seed, purpose))
    tensor.copy_(torch.randn(tensor.shape, generator=generator).mul_(std))
