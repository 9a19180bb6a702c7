"""Variants that train alike though their recipes differ: on a coarse grid of tokens, blocks of two sizes may be one."""

from __future__ import annotations

from vjepa_exp.graph.plan import Plan
from vjepa_exp.graph.tokens import Grid, mask_shape
from vjepa_exp.graph.variants import Variant


def coinciding(plan: Plan) -> list[tuple[Grid, tuple[str, ...]]]:
    """Token grid (T', H', W') and labels of variants whose masks are the same there, and all else in their recipes."""
    found = dict[tuple[object, ...], list[Variant]]()
    for variant in plan.variants:
        found.setdefault(_training(variant), []).append(variant)
    groups = [
        (_grid(variants[0]), labels)
        for variants in found.values()
        if len(labels := tuple(dict.fromkeys(variant.label for variant in variants))) > 1
    ]
    return list(dict.fromkeys(groups))  # each seed has the same


def coinciding_note(plan: Plan) -> str:
    """'On this grid of 4x6x6 tokens the same masks are drawn by: M04 and M05; M09 and M10.', '' where none are."""
    by_grid = dict[Grid, list[str]]()
    for grid, labels in coinciding(plan):
        by_grid.setdefault(grid, []).append(" and ".join(labels))
    return " ".join(
        f"On this grid of {'x'.join(map(str, grid))} tokens the same masks are drawn by: {'; '.join(names)}."
        for grid, names in by_grid.items()
    )


def _grid(variant: Variant) -> Grid:
    clip, model = variant.recipe.pretrain.data.clip, variant.recipe.model
    side = clip.resolution // model.patch_size
    return clip.num_frames // model.tubelet_size, side, side


def _training(variant: Variant) -> tuple[object, ...]:
    recipe = variant.recipe.model_copy(update={"seed": variant.seed})
    dump = recipe.to_json()
    masks = recipe.pretrain.masks
    dump["pretrain"] = {name: value for name, value in dump["pretrain"].items() if name != "masks"}
    return repr(dump), tuple(mask_shape(mask, _grid(variant)) for mask in masks)
