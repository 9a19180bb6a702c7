"""How large the clips are (the 384-pixel model of Table 8, all else equal)."""

from __future__ import annotations

from collections.abc import Iterator

from vjepa_ablations.ablation import Level, ablation, with_fields
from vjepa_exp.spec.experiment import Recipe


@ablation("pretrain.data.clip.resolution", "evaluate.*.clip.resolution")
def scales(base: Recipe) -> Iterator[Level]:
    """Clips of half the base's side, of its side, and of 12/7 of it (384 for 224), in pretraining and every probe."""
    patch = base.model.patch_size
    for name, ratio in (("half", 1 / 2), ("base", 1.0), ("x1.7", 384 / 224)):
        clips = {"pretrain.data.clip": base.pretrain.data.clip}
        clips |= {f"evaluate.{column}.clip": evaluation.clip for column, evaluation in base.evaluate.items()}
        sides = {
            f"{where}.resolution": max(1, round(clip.resolution * ratio / patch)) * patch
            for where, clip in clips.items()
        }
        yield name, with_fields(base, {**sides})
