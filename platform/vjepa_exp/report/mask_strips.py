"""Masks drawn as film strips: what the encoder sees of a clip, frame by frame."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vjepa_exp.spec.experiment import Recipe
from vjepa_exp.spec.masks import MaskSpec, RandomTubeMask
from vjepa_exp.train.networks import mask_sampler
from vjepa_models.masks import sample_targets

BLANK, TARGET, CONTEXT = 0, 1, 2
PALETTE = ListedColormap(["#ffffff", "#dfe5ea", "#0b3c5d"])


def draw_masks(recipes: Mapping[str, Recipe]) -> Figure:
    """One row per variant, one strip per mask of its recipe."""
    across = max(len(recipe.pretrain.masks) for recipe in recipes.values())
    figure = Figure(figsize=(3.9 * across, 0.35 + 1.1 * len(recipes)), layout="constrained", dpi=160)
    grid = figure.subplots(len(recipes), across, squeeze=False)
    for row, (label, recipe) in zip(grid, recipes.items(), strict=True):
        for i, axes in enumerate(row):
            axes.set_axis_off()
            axes.set_anchor("W")
            if i < len(recipe.pretrain.masks):
                strip, share = film_strip(recipe, i)
                axes.imshow(strip, cmap=PALETTE, vmin=0, vmax=2, interpolation="nearest")
                title = f"{label}\n{describe(recipe.pretrain.masks[i])}  ·  context {share:.0%}"
                axes.set_title(title, fontsize=7, loc="left", color="#37424d")
    return figure


def film_strip(recipe: Recipe, mask_id: int) -> tuple[NDArray[np.int64], float]:
    """The first draw of a mask as an image [H, T*(W+1)] of BLANK, TARGET and CONTEXT, and its share of context."""
    t, h, w = recipe.grid
    spec = recipe.pretrain.masks[mask_id]
    target_GN = sample_targets(mask_sampler(spec), recipe.grid, recipe.seed, mask_id, group=0, group_size=1)
    frames_THW = np.where(target_GN[0].reshape(t, h, w), TARGET, CONTEXT)
    gap_TH1 = np.full((t, h, 1), BLANK)
    strip_HX = np.concatenate([frames_THW, gap_TH1], axis=2).transpose(1, 0, 2).reshape(h, t * (w + 1))
    return strip_HX, float(1 - target_GN.mean())


def describe(mask: MaskSpec) -> str:
    """'8 blocks of 15 %'."""
    if isinstance(mask, RandomTubeMask):
        return f"tubes, {mask.ratio:.0%} masked"
    low, high = mask.spatial_scale
    size = f"{low:.0%}" if low == high else f"{low:.0%} to {high:.0%}"
    causal = f", context from the first {mask.max_temporal_keep:.0%}" if mask.max_temporal_keep < 1 else ""
    return f"{mask.num_blocks} block{'s' if mask.num_blocks > 1 else ''} of {size}{causal}"
