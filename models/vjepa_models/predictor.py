"""The predictor: a narrow transformer from context features to the features (or pixels) of the target tokens.

Legend: B batch, K context tokens, M target tokens, D encoder width, E predictor width, O output width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vjepa_models.layers import Block, initialise
from vjepa_models.positions import Grid, position_table


@dataclass(frozen=True, slots=True)
class PredictorConfig:
    """Sizes of a predictor; `out_dim` is the encoder's width for features, the values of a tubelet for pixels.

    Raises:
        ValueError: a width the heads do not divide.
    """

    context_dim: int
    out_dim: int
    grid: Grid
    embed_dim: int = 384
    depth: int = 12
    num_heads: int = 16
    mlp_ratio: float = 4.0
    num_mask_tokens: int = 2
    uniform_power: bool = True
    layer_norm_eps: float = 1e-6
    init_std: float = 0.02

    def __post_init__(self) -> None:
        if self.embed_dim % self.num_heads:
            raise ValueError(f"predictor width {self.embed_dim} is not divisible by its {self.num_heads} heads")


class Predictor(nn.Module):
    """Context tokens and one mask token per target, through blocks, back to the target's width.

    One learned mask token per mask configuration, zero at the start. Parameters are named as in released checkpoints.
    """

    def __init__(self, config: PredictorConfig, seed: int = 0, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.config = config
        c = config
        with torch.device("meta"):  # layers must not draw from the process's generator
            self.predictor_embed = nn.Linear(c.context_dim, c.embed_dim)
            self.predictor_blocks = nn.ModuleList(
                Block(c.embed_dim, c.num_heads, c.mlp_ratio, c.layer_norm_eps) for _ in range(c.depth)
            )
            self.predictor_norm = nn.LayerNorm(c.embed_dim, eps=c.layer_norm_eps)
            self.predictor_proj = nn.Linear(c.embed_dim, c.out_dim)
        self.to_empty(device=device)
        self.mask_tokens = nn.ParameterList(
            nn.Parameter(torch.zeros(1, 1, c.embed_dim, device=device)) for _ in range(c.num_mask_tokens)
        )
        table_1NE = position_table(c.embed_dim, c.grid, c.uniform_power).to(device)
        self.predictor_pos_embed = nn.Parameter(table_1NE, requires_grad=False)
        if torch.device(device).type != "meta":
            initialise(self, seed, "predictor", c.init_std)

    def forward(self, context_BKD: Tensor, context_index_BK: Tensor, target_index_BM: Tensor, mask_id: int) -> Tensor:
        """Predictions of the target tokens, [B, M, O].

        Args:
            context_BKD: encoder features of the context.
            context_index_BK: their token indices.
            target_index_BM: token indices to predict.
            mask_id: mask configuration the indices come from; chooses the mask token.
        """
        positions_NE = self.predictor_pos_embed[0]
        context_BKE = self.predictor_embed(context_BKD) + positions_NE[context_index_BK]
        queries_BME = self.mask_tokens[mask_id % len(self.mask_tokens)] + positions_NE[target_index_BM]
        x_BNE = torch.cat([context_BKE, queries_BME], dim=1)
        for block in self.predictor_blocks:
            x_BNE = block(x_BNE)
        x_BME = self.predictor_norm(x_BNE[:, context_BKE.shape[1] :])
        return self.predictor_proj(x_BME)
