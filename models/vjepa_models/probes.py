"""Classifiers on frozen features: attentive probe (paper section 4.1, appendix D) and linear probe (Table 3).

Legend: B batch, N tokens (of all segments of a video), D width, H heads, C channels per head (of logits: classes),
Q queries, L queries of all heads.
"""

from math import sqrt
from typing import Literal

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from torch import Tensor, nn

from vjepa_models.keyed_rng import keyed_seed
from vjepa_models.layers import Block, Mlp, initialise, normal_

ProbeKind = Literal["attentive_probe", "linear_probe"]
LAYER_NORM_EPS = 1e-5
INIT_STD = 0.02


class CrossAttention(nn.Module):
    """Multi-head attention of queries over tokens, without an output projection.

    Few queries read many tokens, so no token is projected: q . (K x) = (K' q) . x brings the key projection to the
    queries, and the value projection is applied to what they pooled. That is the same function with D / H times fewer
    operations, and without keys and values in memory. The bias of the keys shifts all scores of a query alike: it has
    no effect, and its gradient is zero.

    `proj` stands in the released probe files but takes no part in the forward pass; it is kept, frozen, for their keys.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, queries_BQD: Tensor, tokens_BND: Tensor) -> Tensor:
        """[B, Q, D], [B, N, D] -> [B, Q, D]."""
        num_heads, num_queries = self.num_heads, queries_BQD.shape[1]
        keys_HCD, values_HCD = rearrange(self.kv.weight, "(two h c) d -> two h c d", two=2, h=num_heads)
        q_BQHC = rearrange(self.q(queries_BQD), "b q (h c) -> b q h c", h=num_heads)
        q_BQHD = einsum(q_BQHC, keys_HCD, "b q h c, h c d -> b q h d")
        pooled_B1LD = F.scaled_dot_product_attention(
            rearrange(q_BQHD, "b q h d -> b 1 (q h) d"),
            rearrange(tokens_BND, "b n d -> b 1 n d"),
            rearrange(tokens_BND, "b n d -> b 1 n d"),
            scale=keys_HCD.shape[1] ** -0.5,
        )
        pooled_BQHD = rearrange(pooled_B1LD, "b 1 (q h) d -> b q h d", q=num_queries)
        y_BQHC = einsum(pooled_BQHD, values_HCD, "b q h d, h c d -> b q h c")
        return rearrange(y_BQHC, "b q h c -> b q (h c)") + self.kv.bias.chunk(2)[1]


class CrossAttentionBlock(nn.Module):
    """Queries read the normalised tokens, then pass an MLP."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.xattn = CrossAttention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, queries_BQD: Tensor, tokens_BND: Tensor) -> Tensor:
        """[B, Q, D], [B, N, D] -> [B, Q, D]."""
        queries_BQD = queries_BQD + self.xattn(queries_BQD, self.norm1(tokens_BND))
        return queries_BQD + self.mlp(self.norm2(queries_BQD))


class AttentivePooler(nn.Module):
    """One learned query pools the tokens; with depth > 1 self-attention blocks follow on the pooled token."""

    def __init__(self, dim: int, num_heads: int, depth: int, mlp_ratio: float) -> None:
        super().__init__()
        self.query_tokens = nn.Parameter(torch.zeros(1, 1, dim))
        self.cross_attention_block = CrossAttentionBlock(dim, num_heads, mlp_ratio)
        if depth > 1:
            self.blocks = nn.ModuleList(Block(dim, num_heads, mlp_ratio, LAYER_NORM_EPS) for _ in range(depth - 1))

    def forward(self, tokens_BND: Tensor) -> Tensor:
        """[B, N, D] -> [B, D]."""
        x_BQD = self.query_tokens.expand(tokens_BND.shape[0], -1, -1)
        x_BQD = self.cross_attention_block(x_BQD, tokens_BND)
        for block in getattr(self, "blocks", ()):
            x_BQD = block(x_BQD)
        return x_BQD.squeeze(1)


class AttentiveProbe(nn.Module):
    """Attentive pooling and a linear classifier, with the keys of the released probe files."""

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        num_classes: int,
        seed: int = 0,
        depth: int = 1,
        mlp_ratio: float = 4.0,
    ) -> None:
        super().__init__()
        with torch.device("meta"):  # layers must not draw from the process's generator
            self.pooler = AttentivePooler(embed_dim, num_heads, depth, mlp_ratio)
            self.linear = nn.Linear(embed_dim, num_classes)
        self.to_empty(device="cpu")
        initialise(self.pooler, seed, "probe.pooler", INIT_STD)
        normal_(self.pooler.query_tokens, seed, "probe.query_tokens", INIT_STD)
        self._rescale_residual_outputs()
        _initialise_classifier(self.linear, seed)
        self.pooler.cross_attention_block.xattn.proj.requires_grad_(False)

    def forward(self, tokens_BND: Tensor) -> Tensor:
        """[B, N, D] -> logits [B, C]."""
        return self.linear(self.pooler(tokens_BND))

    @torch.no_grad()
    def _rescale_residual_outputs(self) -> None:
        """Divide the layers that write into the residual stream by sqrt(2 * layer), layers counted from 1."""
        cross = self.pooler.cross_attention_block
        outputs = [(cross.xattn.proj, cross.mlp.fc2)]
        outputs += [(block.attn.proj, block.mlp.fc2) for block in getattr(self.pooler, "blocks", ())]
        for layer, linears in enumerate(outputs, start=1):
            for linear in linears:
                linear.weight.div_(sqrt(2 * layer))


class LinearProbe(nn.Module):
    """Average of all tokens and a linear classifier (the average-pooling rows of paper Table 3)."""

    def __init__(self, embed_dim: int, num_classes: int, seed: int = 0) -> None:
        super().__init__()
        self.linear = nn.Linear(embed_dim, num_classes, device="meta").to_empty(device="cpu")
        _initialise_classifier(self.linear, seed)

    def forward(self, tokens_BND: Tensor) -> Tensor:
        """[B, N, D] -> logits [B, C]."""
        return self.linear(tokens_BND.mean(dim=1))


def build_probe(
    kind: ProbeKind, embed_dim: int, num_heads: int, num_classes: int, seed: int, depth: int = 1
) -> AttentiveProbe | LinearProbe:
    """The probe of this kind. `num_heads` (the encoder's) and `depth` concern the attentive probe only."""
    if kind == "attentive_probe":
        return AttentiveProbe(embed_dim, num_heads, num_classes, seed, depth)
    return LinearProbe(embed_dim, num_classes, seed)


@torch.no_grad()
def _initialise_classifier(linear: nn.Linear, seed: int) -> None:
    """Uniform within 1/sqrt(D), weight and bias: PyTorch's default for a Linear, from our own generator."""
    bound = 1 / sqrt(linear.in_features)
    for name, parameter in linear.named_parameters():
        generator = torch.Generator().manual_seed(keyed_seed(seed, f"probe.linear.{name}"))
        parameter.copy_(torch.rand(parameter.shape, generator=generator).mul_(2 * bound).sub_(bound))
