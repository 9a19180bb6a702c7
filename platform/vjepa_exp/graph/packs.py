"""Probes that one pass of the frozen encoder serves: nearly all of a probe's cost is that pass."""

from __future__ import annotations

from collections.abc import Sequence

from vjepa_exp.graph.network import probe_parameters
from vjepa_exp.graph.stage import Stage, digest
from vjepa_exp.spec.stages import ProbeRecipe

PACK_BYTES = 4 * 2**30
"""Memory that the probes of one pass take together, besides the encoder and the tokens of a batch."""
BYTES_PER_PARAMETER = 16
"""Weight, gradient and two moments. Activations are those of one probe: they take their steps one after the other."""
CLASSES = 10_000
"""More than any data set of the paper has: how many there really are, only a manifest tells."""
OWN = {"lr", "final_lr", "weight_decay", "final_weight_decay", "warmup_epochs", "clip_grad"}
"""What a probe may have for itself: tokens, batches and the number of steps do not depend on it."""


def share_passes(stages: Sequence[Stage], at_most: int | None = None) -> list[tuple[Stage, ...]]:
    """Stages of one level, those together that one pass serves.

    Args:
        stages: in any order, which is kept.
        at_most: of one pass; None: as many as fit in memory.
    """
    packs: list[tuple[Stage, ...]] = []
    latest: dict[str, int] = {}
    for stage in stages:
        if not isinstance(stage.recipe, ProbeRecipe):
            packs.append((stage,))
            continue
        key = _pass(stage, stage.recipe)
        number = latest.get(key)
        if number is not None and len(packs[number]) < (at_most or _fitting([*packs[number], stage])):
            packs[number] += (stage,)
        else:
            latest[key] = len(packs)
            packs.append((stage,))
    return packs


def passengers(stages: Sequence[Stage], at_most: int | None = None) -> set[str]:
    """Fingerprints of the probes that ride on the pass of another one when these stages are done in one run."""
    return {stage.fingerprint for pack in share_passes(stages, at_most) for stage in pack[1:]}


def probes_at_once(recipe: ProbeRecipe) -> int:
    """How many probes like this one fit in memory."""
    return max(1, PACK_BYTES // (probe_parameters(recipe.model, recipe.probe, CLASSES) * BYTES_PER_PARAMETER))


def _pass(stage: Stage, recipe: ProbeRecipe) -> str:
    """Stages with the same one see the same tokens in the same batches; a sweep shares its passes within itself."""
    if recipe.probe.sweep is not None:
        return stage.fingerprint
    dump = recipe.model_dump()
    probe = {name: value for name, value in dump["probe"].items() if name not in ("kind", "depth", "optim")}
    probe["optim"] = {name: value for name, value in dump["probe"]["optim"].items() if name not in OWN}
    return digest({**dump, "probe": probe, "inputs": sorted(one.fingerprint for one in stage.inputs)})


def _fitting(stages: Sequence[Stage]) -> int:
    """How many probes as large as the largest of these fit."""
    return min(probes_at_once(stage.recipe) for stage in stages if isinstance(stage.recipe, ProbeRecipe))
