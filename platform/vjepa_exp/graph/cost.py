"""What a stage costs, before anything runs: parameters, FLOPs, memory, decoded bytes, hours.

An estimate to choose by, not a measurement: FLOPs and memory are counted (within ten percent of measured ones, tested),
hours and CPU cores are ranges with their assumptions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from vjepa_exp.graph.draws import sweep_size
from vjepa_exp.graph.machine import Machine
from vjepa_exp.graph.memory import clip_values, finetune_memory, num_tokens, pretrain_memory, probe_memory
from vjepa_exp.graph.network import (
    encoder_flops,
    encoder_parameters,
    predictor_flops,
    predictor_parameters,
    probe_flops,
    probe_parameters,
    recomputed_flops,
    tubelet_values,
)
from vjepa_exp.graph.packs import probes_at_once
from vjepa_exp.graph.sizes import dataset_size, holds_images
from vjepa_exp.graph.stage import Stage
from vjepa_exp.graph.tokens import MaskTokens, mask_draws
from vjepa_exp.spec.augment import NoAugment
from vjepa_exp.spec.data import ClipSpec
from vjepa_exp.spec.datasets import Registry
from vjepa_exp.spec.execution import ExecutionSpec
from vjepa_exp.spec.model import ModelSpec
from vjepa_exp.spec.stages import FinetuneRecipe, PretrainRecipe, ProbeRecipe

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
    images: bool = False
    """Whether the clips are still images, of which one frame is decoded."""
    pass_flops: float | None = None
    """Of the total, what a probe's frozen encoder takes: once for all probes that share its pass."""
    kept_steps: int = 0
    """Training steps that are not done again from a checkpoint; 0 where that would spare next to nothing."""
    kept_share: float = 0.0
    """What they are of the stage's work; the rest is the test of a probe, which begins anew."""
    kept_together: int = 1
    """Probes of one checkpoint."""

    @property
    def riding(self) -> StageCost:
        """The cost of a probe that rides on the pass of another one."""
        if self.total_flops is None or self.pass_flops is None:
            return self
        return replace(self, total_flops=self.total_flops - self.pass_flops, clips=0, decoded_bytes=0)


@dataclass(frozen=True)
class Device:
    """Something to compute on and the FLOP/s that it reaches in training."""

    name: str
    low: float
    high: float
    assumption: str
    memory_bytes: int | None = None


GPUS: Mapping[str, Device] = {
    "H200": Device("H200", 0.2 * 989e12, 0.4 * 989e12, "20-40 % of 989 TFLOP/s (bf16)", 141 * 10**9),
    "H100": Device("H100", 0.2 * 989e12, 0.4 * 989e12, "20-40 % of 989 TFLOP/s (bf16)", 80 * 10**9),
    "A100": Device("A100 80GB", 0.25 * 312e12, 0.45 * 312e12, "25-45 % of 312 TFLOP/s (bf16)", 80 * 10**9),
}
VIDEO_CLIPS_PER_CORE = (8.0, 25.0)
"""Clips of 16 frames that a core decodes in a second from files of 340x256: key frames far apart, and close by."""
IMAGES_PER_CORE = (100.0, 160.0)
DECODING = "8-25 clips of 16 frames, or 100-160 images, a second and core (files of 340x256)"


def stage_cost(stage: Stage, execution: ExecutionSpec, registry: Registry) -> StageCost | None:
    """Cost of a pretraining, probe or fine-tuning stage.

    None for demo data, which is made in seconds, for detection heads and for models of others.
    """
    if isinstance(stage.recipe, PretrainRecipe):
        return _pretrain_cost(stage.recipe, execution)
    if isinstance(stage.recipe, ProbeRecipe):
        return _probe_cost(stage.recipe, execution, registry)
    if isinstance(stage.recipe, FinetuneRecipe):
        return _finetune_cost(stage.recipe, execution, registry)
    return None


def device_of(execution: ExecutionSpec, machine: Machine) -> tuple[Device, int]:
    """The device that hours are stated for, and how many: the named one, else this machine's, else A100s."""
    if execution.device == "cpu" or (execution.device is None and execution.gpu is None and not machine.gpus):
        core = Device(f"core of {machine.cpu}", 8e9, 40e9, "8-40 GFLOP/s per core (fp32)")
        return core, machine.cores
    if execution.gpu is not None:
        return GPUS[execution.gpu], execution.workers
    names = [gpu.name for gpu in machine.gpus]
    here = next((device for key, device in GPUS.items() for name in names if key in name), GPUS["A100"])
    return here, execution.workers


def hours(costs: Iterable[StageCost | None], device: Device, count: int) -> tuple[float, float] | None:
    """Hours that stages take on `count` devices, at best and at worst; None if a cost is not known."""
    totals = [cost.total_flops for cost in costs if cost is not None]
    known = [total for total in totals if total is not None]
    if len(known) < len(totals):
        return None
    return sum(known) / (device.high * count) / 3600, sum(known) / (device.low * count) / 3600


def decode_cores(cost: StageCost, device: Device, count: int) -> tuple[float, float] | None:
    """CPU cores that keep `count` devices fed, at least and at most; None where that is not known."""
    if not cost.clips or not cost.total_flops:
        return None
    slow, fast = IMAGES_PER_CORE if cost.images else VIDEO_CLIPS_PER_CORE
    per_clip = cost.total_flops / cost.clips
    return count * device.low / per_clip / fast, count * device.high / per_clip / slow


def clip_bytes(clip: ClipSpec) -> int:
    """A decoded clip, uint8."""
    return clip_values(clip)


def _pretrain_cost(recipe: PretrainRecipe, execution: ExecutionSpec) -> StageCost:
    model, pretrain = recipe.model, recipe.pretrain
    clip, tokens = pretrain.data.clip, num_tokens(model, pretrain.data.clip)
    side = clip.resolution // model.patch_size
    grid = (clip.num_frames // model.tubelet_size, side, side)
    draws = [mask_draws(mask, grid, pretrain.mask_group_size) for mask in pretrain.masks]
    masks = tuple(map(MaskTokens.mean, draws))
    pixels = pretrain.objective.kind == "pixels"
    output = tubelet_values(model) if pixels else model.encoder.embed_dim
    trained = sum(encoder_flops(model, m.context) + predictor_flops(model, *m, output) for m in masks)
    target = 0 if pixels else encoder_flops(model, tokens)
    backward = BACKWARD * trained
    if execution.activation_checkpointing:
        backward += sum(_recomputed(model, mask) for mask in masks)
    clips = pretrain.optim.batch_size * pretrain.optim.iterations
    parameters = encoder_parameters(model) + predictor_parameters(model, len(masks), output)
    return StageCost(
        parameters=parameters,
        tokens_per_clip=tokens,
        masks=masks,
        forward_flops=target + trained,
        backward_flops=backward,
        total_flops=clips * (target + trained + backward),
        clips=clips,
        decoded_bytes=clips * clip_bytes(clip),
        memory_bytes=pretrain_memory(recipe, execution, parameters, draws),
        kept_steps=pretrain.optim.iterations,
        kept_share=1.0,
    )


def _recomputed(model: ModelSpec, mask: MaskTokens) -> float:
    """FLOPs of one clip under one mask whose blocks' activations are computed again."""
    size, width = model.encoder, model.predictor.embed_dim
    encoder = size.depth * recomputed_flops(mask.context, size.embed_dim, size.mlp_dim)
    return encoder + model.predictor.depth * recomputed_flops(mask.context + mask.target, width, 4 * width)


def _probe_cost(recipe: ProbeRecipe, execution: ExecutionSpec, registry: Registry) -> StageCost:
    model, probe = recipe.model, recipe.probe
    size = dataset_size(probe.dataset, registry)
    tokens = num_tokens(model, probe.clip)
    classes = size.classes if size else 0
    encode = encoder_flops(model, tokens) * probe.clips
    classify = probe_flops(model, probe, tokens * probe.clips, classes)
    parameters = probe_parameters(model, probe, classes)
    repeats = probe.clip.num_frames if holds_images(probe.dataset, registry) else 1  # of a frame, by the worker
    clips = total = on_pass = None
    together = 1  # probes in memory
    steps, share = 0, 0.0
    if size:
        train = round(size.train * probe.label_fraction)
        shown = train * probe.optim.epochs
        encoded, tested = train, size.val * probe.views  # fixed clips are encoded once
        held_out = rounds = 0
        if probe.sweep is not None:
            held_out = round(train * probe.sweep.holdout)
            candidates, rounds = sweep_size(probe.sweep, probes_at_once(recipe))
            together = -(-candidates // rounds)
            shown += candidates * (train - held_out) * probe.optim.epochs
        if not isinstance(probe.augment, NoAugment):  # each round is a pass, and so is the last training
            passes = [*[train - held_out] * rounds, train]
            steps = sum(probe.optim.epochs * max(1, videos // probe.optim.batch_size) for videos in passes)
            encoded, tested = probe.optim.epochs * sum(passes), tested + rounds * held_out
            share = encoded / (encoded + tested)
        clips = (encoded + tested) * probe.clips
        on_pass = (encoded + tested) * encode
        total = on_pass + (shown * (1 + BACKWARD) + tested) * classify
    return StageCost(
        parameters=parameters,
        tokens_per_clip=tokens,
        masks=(),
        forward_flops=encode + classify,
        backward_flops=BACKWARD * classify,
        total_flops=total,
        clips=clips,
        decoded_bytes=None if clips is None else clips * clip_bytes(probe.clip) // repeats,
        memory_bytes=probe_memory(recipe, execution, parameters * together),
        images=holds_images(probe.dataset, registry),
        pass_flops=on_pass,
        kept_steps=steps,
        kept_share=share,
        kept_together=together,
    )


def _finetune_cost(recipe: FinetuneRecipe, execution: ExecutionSpec, registry: Registry) -> StageCost:
    model, spec = recipe.model, recipe.finetune
    (optim,) = spec.optim.values()
    size, tokens = dataset_size(spec.dataset, registry), num_tokens(model, spec.clip)
    classes = size.classes if size else 0
    forward = encoder_flops(model, tokens) + 2.0 * model.encoder.embed_dim * classes
    parameters = encoder_parameters(model) + model.encoder.embed_dim * classes + classes
    clips = total = None
    if size:
        shown, tested = size.train * optim.epochs, size.val * spec.clips * spec.views
        clips = shown + size.val * spec.clips
        total = (shown * spec.num_samples * (1 + BACKWARD) + tested) * forward
    return StageCost(
        parameters=parameters,
        tokens_per_clip=tokens,
        masks=(),
        forward_flops=spec.num_samples * forward,
        backward_flops=spec.num_samples * BACKWARD * forward,
        total_flops=total,
        clips=clips,
        decoded_bytes=None if clips is None else clips * clip_bytes(spec.clip),
        memory_bytes=finetune_memory(recipe, execution, parameters),
    )
