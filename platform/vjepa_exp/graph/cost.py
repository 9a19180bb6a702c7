"""What a stage costs, before anything runs: parameters, FLOPs, memory, decoded bytes, hours.

An estimate to choose by, not a measurement: FLOPs are counted, memory is good to about a third, hours are a range.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vjepa_exp.graph.machine import Machine
from vjepa_exp.graph.network import (
    encoder_flops,
    encoder_parameters,
    predictor_flops,
    predictor_parameters,
    probe_flops,
    probe_parameters,
    saved_activations,
    tubelet_values,
)
from vjepa_exp.graph.sizes import dataset_size, holds_images
from vjepa_exp.graph.stage import Stage
from vjepa_exp.graph.tokens import MaskTokens, mask_tokens
from vjepa_exp.spec.augment import NoAugment
from vjepa_exp.spec.data import ClipSpec
from vjepa_exp.spec.datasets import Registry
from vjepa_exp.spec.execution import ExecutionSpec
from vjepa_exp.spec.model import ModelSpec
from vjepa_exp.spec.stages import PretrainRecipe, ProbeRecipe

TRAINED_BYTES = 16
"""Of a trained parameter: fp32 weight, gradient and two Adam moments."""
CAST_BYTES = {"fp32": 0, "bf16": 2}
"""Of a trained parameter, for the copy that autocast keeps until the backward pass is done."""
BACKWARD = 2
"""FLOPs of a backward pass over those of its forward pass."""


@dataclass(frozen=True)
class StageCost:
    """Cost of one stage. None: the size of its data set is known to its manifest alone."""

    parameters: int
    """Trained in this stage."""
    tokens_per_clip: int
    masks: tuple[MaskTokens, ...]
    """Context and target tokens per mask configuration, means."""
    forward_flops: float
    """Per clip (pretraining) or per video of a training step (probe), frozen networks included."""
    backward_flops: float
    total_flops: float | None
    clips: int | None
    """Decoded clips in sum."""
    decoded_bytes: int | None
    """uint8 pixels of all decoded clips as they reach the workers."""
    memory_bytes: int
    """Peak of one worker: weights, optimiser, activations of one micro-batch."""


@dataclass(frozen=True)
class Device:
    """Something to compute on and the FLOP/s that it reaches in training."""

    name: str
    low: float
    high: float
    assumption: str


A100 = Device("A100 80GB", 0.25 * 312e12, 0.45 * 312e12, "25-45 % of 312 TFLOP/s (bf16)")
GPUS = {
    "H200": Device("H200", 0.2 * 989e12, 0.4 * 989e12, "20-40 % of 989 TFLOP/s (bf16)"),
    "H100": Device("H100", 0.2 * 989e12, 0.4 * 989e12, "20-40 % of 989 TFLOP/s (bf16)"),
    "A100": A100,
}


def stage_cost(stage: Stage, execution: ExecutionSpec, registry: Registry) -> StageCost | None:
    """Cost of a pretraining or probe stage; None for demo data, which is made in seconds."""
    if isinstance(stage.recipe, PretrainRecipe):
        return _pretrain_cost(stage.recipe, execution)
    if isinstance(stage.recipe, ProbeRecipe):
        return _probe_cost(stage.recipe, execution, registry)
    return None


def device_of(execution: ExecutionSpec, machine: Machine) -> tuple[Device, int]:
    """The device that hours are stated for, and how many: this machine's where the recipe fits it, else A100s."""
    if execution.device == "cpu" or (execution.device is None and not machine.gpus):
        core = Device(f"core of {machine.cpu}", 8e9, 40e9, "8-40 GFLOP/s per core (fp32)")
        return core, machine.cores
    names = [gpu.name for gpu in machine.gpus]
    here = next((device for key, device in GPUS.items() for name in names if key in name), A100)
    return here, execution.workers


def hours(costs: Iterable[StageCost | None], device: Device, count: int) -> tuple[float, float] | None:
    """Hours that stages take on `count` devices, at best and at worst; None if a cost is not known."""
    totals = [cost.total_flops for cost in costs if cost is not None]
    known = [total for total in totals if total is not None]
    if len(known) < len(totals):
        return None
    return sum(known) / (device.high * count) / 3600, sum(known) / (device.low * count) / 3600


def num_tokens(model: ModelSpec, clip: ClipSpec) -> int:
    """Tokens of a clip."""
    return (clip.num_frames // model.tubelet_size) * (clip.resolution // model.patch_size) ** 2


def clip_bytes(clip: ClipSpec) -> int:
    """A decoded clip, uint8."""
    return 3 * clip.num_frames * clip.resolution**2


def _pretrain_cost(recipe: PretrainRecipe, execution: ExecutionSpec) -> StageCost:
    model, pretrain = recipe.model, recipe.pretrain
    clip, tokens = pretrain.data.clip, num_tokens(model, pretrain.data.clip)
    side = clip.resolution // model.patch_size
    grid = (clip.num_frames // model.tubelet_size, side, side)
    masks = tuple(mask_tokens(mask, grid, pretrain.mask_group_size) for mask in pretrain.masks)
    pixels = pretrain.objective.kind == "pixels"
    output = tubelet_values(model) if pixels else model.encoder.embed_dim
    trained = sum(encoder_flops(model, m.context) + predictor_flops(model, *m, output) for m in masks)
    target = 0 if pixels else encoder_flops(model, tokens)
    clips = pretrain.optim.batch_size * pretrain.optim.iterations
    parameters = encoder_parameters(model) + predictor_parameters(model, len(masks), output)
    return StageCost(
        parameters=parameters,
        tokens_per_clip=tokens,
        masks=masks,
        forward_flops=target + trained,
        backward_flops=BACKWARD * trained,
        total_flops=clips * (target + (1 + BACKWARD) * trained),
        clips=clips,
        decoded_bytes=clips * clip_bytes(clip),
        memory_bytes=_pretrain_memory(recipe, execution, parameters, masks),
    )


def _pretrain_memory(
    recipe: PretrainRecipe, execution: ExecutionSpec, parameters: int, masks: tuple[MaskTokens, ...]
) -> int:
    model, size, clip = recipe.model, recipe.model.encoder, recipe.pretrain.data.clip
    value, width = _value_bytes(recipe.pretrain.precision), recipe.model.predictor.embed_dim
    kept = sum(
        saved_activations(m.context, size.embed_dim, size.mlp_dim, size.depth, value)
        + saved_activations(m.context + m.target, width, 4 * width, model.predictor.depth, value)
        for m in masks
    )
    target_features = num_tokens(model, clip) * size.embed_dim * 4
    micro_batch = execution.micro_batch or recipe.pretrain.mask_group_size
    average = 0 if recipe.pretrain.objective.kind == "pixels" else 4 * encoder_parameters(model)
    per_clip = kept + target_features + clip_bytes(clip) * (1 + value)
    trained = (TRAINED_BYTES + CAST_BYTES[recipe.pretrain.precision]) * parameters
    return round(trained + average + micro_batch * per_clip)


def _probe_cost(recipe: ProbeRecipe, execution: ExecutionSpec, registry: Registry) -> StageCost:
    model, probe = recipe.model, recipe.probe
    size = dataset_size(probe.dataset, registry)
    tokens = num_tokens(model, probe.clip)
    classes = size.classes if size else 0
    encode = encoder_flops(model, tokens) * probe.clips
    classify = probe_flops(model, probe, tokens * probe.clips, classes)
    parameters = probe_parameters(model, probe, classes)
    repeats = probe.clip.num_frames if holds_images(probe.dataset, registry) else 1  # of a frame, by the worker
    clips = total = None
    if size:
        train = round(size.train * probe.label_fraction)
        shown = train * probe.optim.epochs
        encoded = train if isinstance(probe.augment, NoAugment) else shown  # fixed clips are encoded once
        clips = (encoded + size.val * probe.views) * probe.clips
        test = size.val * probe.views * (encode + classify)
        total = encoded * encode + shown * (1 + BACKWARD) * classify + test
    return StageCost(
        parameters=parameters,
        tokens_per_clip=tokens,
        masks=(),
        forward_flops=encode + classify,
        backward_flops=BACKWARD * classify,
        total_flops=total,
        clips=clips,
        decoded_bytes=None if clips is None else clips * clip_bytes(probe.clip) // repeats,
        memory_bytes=_probe_memory(recipe, execution, parameters, tokens),
    )


def _probe_memory(recipe: ProbeRecipe, execution: ExecutionSpec, parameters: int, tokens: int) -> int:
    """The frozen encoder keeps one block's activations, the probe its input and the keys and values."""
    probe, size = recipe.probe, recipe.model.encoder
    value = _value_bytes(probe.precision)
    videos = min(execution.micro_batch or probe.optim.batch_size, probe.optim.batch_size)
    frozen = 4 * encoder_parameters(recipe.model)
    block = saved_activations(tokens, size.embed_dim, size.mlp_dim, 1, value)
    features = 4 * tokens * size.embed_dim * value
    per_video = probe.clips * (block + features + clip_bytes(probe.clip) * (1 + value))
    return round(frozen + TRAINED_BYTES * parameters + videos * per_video)


def _value_bytes(precision: str) -> int:
    return 2 if precision == "bf16" else 4
