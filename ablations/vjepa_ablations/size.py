"""The three models of the paper: ViT-L/16, ViT-H/16, ViT-H/16 at 384 pixels (section 5, Table 8).

Levels are relative to the base recipe, so that they mean the same on every profile: one size up, and the ratios of
Table 8 in resolution, batch and mask group.
"""

from __future__ import annotations

from collections.abc import Iterator

from vjepa_ablations.ablation import Level, Value, ablation, with_field, with_fields
from vjepa_exp.spec.experiment import Recipe
from vjepa_exp.spec.model import ModelSpec

SIZES = ("vit_tiny", "vit_small", "vit_base", "vit_large", "vit_huge", "vit_giant")
RESOLUTION_RATIO = 384 / 224
BATCH_RATIO = 2400 / 3072
GROUP_RATIO = 10 / 24
OWNED = (
    "model",
    "pretrain.data.clip.resolution",
    "pretrain.optim.batch_size",
    "pretrain.mask_group_size",
    "evaluate.*.clip.resolution",
)


@ablation(*OWNED)
def table6(base: Recipe) -> Iterator[Level]:
    """ViT-L/16, ViT-H/16 and ViT-H/16 at 384 pixels (Tables 5, 6, 8)."""
    yield "vjepa_l", base
    yield from table7.levels(base)


@ablation(*OWNED)
def table7(base: Recipe) -> Iterator[Level]:
    """ViT-H/16 and ViT-H/16 at 384 pixels (Table 7)."""
    larger = with_field(base, "model", one_size_up(base.model))
    yield "vjepa_h", larger
    yield "vjepa_h384", _at_384(larger)


@ablation("model")
def table15(base: Recipe) -> Iterator[Level]:
    """ViT-L/16 and ViT-H/16 (Table 15, Figure 1)."""
    yield "vjepa_l", base
    yield "vjepa_h", with_field(base, "model", one_size_up(base.model))


@ablation(*OWNED)
def table16(base: Recipe) -> Iterator[Level]:
    """ViT-H/16 at 384 pixels alone (Table 16)."""
    yield "vjepa_h384", _at_384(with_field(base, "model", one_size_up(base.model)))


def one_size_up(model: ModelSpec) -> ModelSpec:
    """The next larger encoder: ViT-H for ViT-L; one of free sizes grows by as much in width and depth.

    Raises:
        ValueError: there is no larger one.
    """
    if model.arch == "custom":
        heads = model.encoder.num_heads
        step = 4 * heads  # widths divide by the heads and, for the position table, by 4
        width = -(-model.encoder.embed_dim * 5 // 4 // step) * step
        return model.model_copy(update={"embed_dim": width, "depth": -(-model.encoder.depth * 4 // 3)})
    if model.arch == SIZES[-1]:
        raise ValueError(f"there is no encoder larger than {model.arch}")
    return model.model_copy(update={"arch": SIZES[SIZES.index(model.arch) + 1]})


def _at_384(base: Recipe) -> Recipe:
    group = max(1, round(base.pretrain.mask_group_size * GROUP_RATIO))
    batch = max(1, round(base.pretrain.optim.batch_size * BATCH_RATIO / group)) * group
    fields: dict[str, Value] = {
        "pretrain.data.clip.resolution": _larger(base, base.pretrain.data.clip.resolution),
        "pretrain.optim.batch_size": batch,
        "pretrain.mask_group_size": group,
    }
    for name, evaluation in base.evaluate.items():
        fields[f"evaluate.{name}.clip.resolution"] = _larger(base, evaluation.clip.resolution)
    return with_fields(base, fields)


def _larger(base: Recipe, resolution: int) -> int:
    patch = base.model.patch_size
    return round(resolution * RESOLUTION_RATIO / patch) * patch
