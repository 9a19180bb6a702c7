"""The video encoder: tubelet embedding, fixed positions, transformer blocks (paper section 3.3, Table 8).

Legend: B batch, C T H W a clip, N tokens of the whole clip, K kept tokens, P values of a tubelet, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vjepa_models.layers import Block, gather_tokens, initialise
from vjepa_models.positions import Grid, interpolate_positions, position_table


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """Sizes of a video encoder and of the clip its position table is made for.

    Raises:
        ValueError: sizes that do not divide each other.
    """

    embed_dim: int
    depth: int
    num_heads: int
    mlp_ratio: float
    num_frames: int
    resolution: int
    patch_size: int = 16
    tubelet_size: int = 2
    uniform_power: bool = True
    layer_norm_eps: float = 1e-6
    init_std: float = 0.02

    def __post_init__(self) -> None:
        if self.embed_dim % self.num_heads:
            raise ValueError(f"embed_dim {self.embed_dim} is not divisible by num_heads {self.num_heads}")
        if self.resolution % self.patch_size:
            raise ValueError(f"resolution {self.resolution} is not divisible by patch_size {self.patch_size}")
        if self.num_frames % self.tubelet_size:
            raise ValueError(f"num_frames {self.num_frames} is not divisible by tubelet_size {self.tubelet_size}")

    @property
    def grid(self) -> Grid:
        """Tokens along (t, y, x)."""
        side = self.resolution // self.patch_size
        return self.num_frames // self.tubelet_size, side, side

    @property
    def num_tokens(self) -> int:
        """N, tokens of a clip."""
        t, h, w = self.grid
        return t * h * w

    @property
    def tubelet_dim(self) -> int:
        """P, values of one tubelet."""
        return 3 * self.tubelet_size * self.patch_size**2


class TubeletEmbed(nn.Module):
    """Linear map of non-overlapping tubelets, with the weights of a strided Conv3d as the released checkpoints have."""

    def __init__(self, dim: int, patch_size: int, tubelet_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.tubelet_size = tubelet_size
        size = (tubelet_size, patch_size, patch_size)
        self.proj = nn.Conv3d(3, dim, kernel_size=size, stride=size)

    def forward(self, clips_BCTHW: Tensor, keep_BK: Tensor | None = None) -> Tensor:
        """Embeddings of all tokens [B, N, D], or of the kept ones [B, K, D], which are gathered first.

        A CPU embeds whole clips by the convolution, with the sums of the reference. CUDA's convolutions round fp32 to
        10 bits unless told otherwise: there it is one matrix product.
        """
        if keep_BK is None and not clips_BCTHW.is_cuda:
            return rearrange(self.proj(clips_BCTHW), "b d t h w -> b (t h w) d")
        tubelets_BNP = tubelets(clips_BCTHW, self.tubelet_size, self.patch_size)
        if keep_BK is not None:
            tubelets_BNP = gather_tokens(tubelets_BNP, keep_BK)
        return F.linear(tubelets_BNP, self.proj.weight.flatten(1), self.proj.bias)


class VideoEncoder(nn.Module):
    """Vision transformer over the tubelets of a clip, or over the kept ones only.

    Parameter names and shapes are those of the released checkpoints. Initial weights are a pure function of `seed`;
    on the `meta` device nothing is allocated or drawn.
    """

    def __init__(self, config: EncoderConfig, seed: int = 0, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.config = config
        c = config
        with torch.device("meta"):  # layers must not draw from the process's generator
            self.patch_embed = TubeletEmbed(c.embed_dim, c.patch_size, c.tubelet_size)
            self.blocks = nn.ModuleList(
                Block(c.embed_dim, c.num_heads, c.mlp_ratio, c.layer_norm_eps) for _ in range(c.depth)
            )
            self.norm = nn.LayerNorm(c.embed_dim, eps=c.layer_norm_eps)
        self.to_empty(device=device)
        table_1ND = position_table(c.embed_dim, c.grid, c.uniform_power).to(device)
        self.pos_embed = nn.Parameter(table_1ND, requires_grad=False)
        if torch.device(device).type != "meta":
            initialise(self, seed, "encoder", c.init_std)

    def forward(
        self, clips_BCTHW: Tensor, keep_BK: Tensor | None = None, layers: Sequence[int] | None = None
    ) -> Tensor | list[Tensor]:
        """Features after the final LayerNorm.

        Args:
            clips_BCTHW: clips; another size than the configured one interpolates the position table.
            keep_BK: ascending indices of the tokens to see; all tokens where None. Tubelets are selected before they
                are embedded, which gives the same numbers as embedding all of them.
            layers: zero-based blocks whose outputs to return, in ascending order; the last block where None.

        Returns:
            [B, N, D] (or [B, K, D]), or with `layers` a list of them.
        """
        positions = interpolate_positions(self.pos_embed, self.config.grid, self.token_grid(clips_BCTHW))
        if keep_BK is not None:
            positions = positions[0, keep_BK]
        x_BND = self.patch_embed(clips_BCTHW, keep_BK)
        x_BND = (x_BND + positions).to(x_BND.dtype)  # under autocast the residual stream has the precision of x
        outputs = []
        for i, block in enumerate(self.blocks):
            x_BND = block(x_BND)
            if layers is not None and i in layers:
                outputs.append(self.norm(x_BND))
        return self.norm(x_BND) if layers is None else outputs

    def token_grid(self, clips_BCTHW: Tensor) -> Grid:
        """Tokens of these clips along (t, y, x)."""
        t, h, w = clips_BCTHW.shape[-3:]
        return t // self.config.tubelet_size, h // self.config.patch_size, w // self.config.patch_size


def tubelets(clips_BCTHW: Tensor, tubelet_size: int, patch_size: int) -> Tensor:
    """Clips cut into tubelets [B, N, P]: tokens t, y, x (x fastest), values channel, frame, row, column."""
    return rearrange(
        clips_BCTHW,
        "b c (t dt) (h dh) (w dw) -> b (t h w) (c dt dh dw)",
        dt=tubelet_size,
        dh=patch_size,
        dw=patch_size,
    )
