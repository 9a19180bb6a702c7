"""Peak memory of one worker, by counting what is alive at the worst moment of a step.

That moment is the end of a forward pass (weights, optimiser, with several micro-batches gradients, and all that the
backward passes of the masks will need), or the end of the first of these backward passes, when the gradients have come
into being and the other masks' activations are still there. Checked against the measured peak of real steps in
tests/unit/graph/test_memory.py.

FSDP divides weights, moments and target encoder by the workers; a few blocks at a time, and the networks' ends, are
whole. Gradients are divided once they are complete: while micro-batches, mask groups or masks of them are still to
come, every worker holds all of its own, and gives away those of the earlier micro-batches with the last one.
Activation checkpointing keeps the inputs of blocks, and besides them what a single block computes again.
"""

from __future__ import annotations

from collections.abc import Sequence

from vjepa_exp.graph.network import (
    block_parameters,
    encoder_parameters,
    predictor_parameters,
    saved_activations,
    tubelet_values,
)
from vjepa_exp.graph.tokens import MaskTokens
from vjepa_exp.spec.data import ClipSpec
from vjepa_exp.spec.execution import ExecutionSpec
from vjepa_exp.spec.model import ModelSpec
from vjepa_exp.spec.stages import FinetuneRecipe, PretrainRecipe, ProbeRecipe

FLOAT = 4
STATE_BYTES = 12
"""Of a trained parameter: fp32 weight and two Adam moments."""
GRADIENT_BYTES = 4
CAST_BYTES = {"fp32": 0, "bf16": 2}
"""Of a trained parameter, for the copy that autocast keeps until the backward pass is done."""
WORST_OF = 40
"""Draws of masks of which the worst counts: a short training meets it; of ten thousand one is some percent worse."""
ENDS = 3
"""Tensors as wide as a token that a network keeps at its two ends."""
WHOLE_BLOCKS = 3
"""Blocks of a sharded network that a worker holds at once: in use, on its way, and as gradients to give away."""


def value_bytes(precision: str) -> int:
    """Bytes of an activation."""
    return 2 if precision == "bf16" else FLOAT


def clip_values(clip: ClipSpec) -> int:
    """Numbers of a clip."""
    return 3 * clip.num_frames * clip.resolution**2


def num_tokens(model: ModelSpec, clip: ClipSpec) -> int:
    """Tokens of a clip."""
    return (clip.num_frames // model.tubelet_size) * (clip.resolution // model.patch_size) ** 2


def pretrain_memory(
    recipe: PretrainRecipe, execution: ExecutionSpec, parameters: int, draws: Sequence[Sequence[MaskTokens]]
) -> int:
    """Bytes of one worker at the worst of the given draws.

    Args:
        recipe: of the stage.
        execution: workers, micro-batch, sharding and activation checkpointing.
        parameters: trained ones.
        draws: of every mask configuration the tokens of some groups, which belong together by their place.
    """
    spec = recipe.pretrain
    clips = -(-spec.optim.batch_size // execution.workers)
    micro_batch = min(clips, execution.micro_batch or spec.mask_group_size)
    groups = max(1, micro_batch // spec.mask_group_size)
    micro_batches = [
        [MaskTokens.mean(draw[start : start + groups]) for draw in draws]
        for start in range(0, max(1, min(WORST_OF, len(draws[0])) - groups + 1), groups)
    ]
    return max(_step_memory(recipe, execution, clips, micro_batch, parameters, masks) for masks in micro_batches)


def _step_memory(
    recipe: PretrainRecipe,
    execution: ExecutionSpec,
    clips: int,
    micro_batch: int,
    parameters: int,
    masks: Sequence[MaskTokens],
) -> int:
    """Bytes of one worker whose micro-batches have so many tokens under every mask."""
    model, spec = recipe.model, recipe.pretrain
    pixels = spec.objective.kind == "pixels"
    output = tubelet_values(model) if pixels else model.encoder.embed_dim
    average = 0 if pixels else encoder_parameters(model)
    targets = num_tokens(model, spec.data.clip) * output * FLOAT
    again, value = execution.activation_checkpointing, value_bytes(spec.precision)
    kept = [_kept_by_mask(model, mask, output, value, again) for mask in masks]
    # What the predictor's forward pass needs for a moment; among what a block computes again it is counted there.
    widest = 0 if again else max(mask.context + mask.target for mask in masks) * 8 * model.predictor.embed_dim * FLOAT
    casts = CAST_BYTES[spec.precision] * parameters
    computed_again = micro_batch * max(_block_by_mask(model, mask, value) for mask in masks) if again else 0
    uses = -(-micro_batch // spec.mask_group_size) * len(masks)
    before, after = _gradients(execution, parameters, several=clips > micro_batch, uses=uses)
    forward_done = before + micro_batch * sum(kept) + max(casts, computed_again)
    one_backward_done = after + micro_batch * sum(kept[:-1]) + (computed_again if again else casts)
    state = _held(model, execution, parameters, average, output) + clips * clip_values(spec.data.clip) * FLOAT
    return round(state + micro_batch * (targets + widest) + max(forward_done, one_backward_done))


def _held(model: ModelSpec, execution: ExecutionSpec, parameters: int, average: int, output: int) -> float:
    """Bytes of weights, moments and target encoder, and of what the workers share them by."""
    whole = STATE_BYTES * parameters + FLOAT * average
    if execution.slices > 1:
        return whole / execution.slices + FLOAT * _whole_parameters(model, output)
    return whole + (GRADIENT_BYTES * parameters if execution.workers > 1 else 0)  # DDP's buckets


def _gradients(execution: ExecutionSpec, parameters: int, *, several: bool, uses: int) -> tuple[float, float]:
    """Bytes of gradients at the end of the last forward pass, and of the first of its backward passes.

    Args:
        execution: workers and sharding.
        parameters: trained ones.
        several: whether other micro-batches came before.
        uses: of a parameter in one micro-batch; its gradients wait for each other.
    """
    all_of_them, slices = GRADIENT_BYTES * parameters, execution.slices
    before = all_of_them if several else 0
    if uses > 1:
        return before, all_of_them + before / slices
    return before, all_of_them if several else all_of_them / slices


def _whole_parameters(model: ModelSpec, output: int) -> int:
    """Parameters of a sharded model that one worker holds besides its slice: some blocks, and what is in no block."""
    size, width = model.encoder, model.predictor.embed_dim
    encoder = block_parameters(size.embed_dim, size.mlp_dim)
    predictor = block_parameters(width, 4 * width)
    total = encoder_parameters(model) + predictor_parameters(model, 1, output)
    ends = total - size.depth * encoder - model.predictor.depth * predictor
    return ends + WHOLE_BLOCKS * max(encoder, predictor)


def _kept_by_mask(model: ModelSpec, mask: MaskTokens, output: int, value: int, again: bool) -> float:
    """Bytes that the backward pass of one clip under one mask needs; of blocks that are computed `again` the inputs."""
    size, width, depth = model.encoder, model.predictor.embed_dim, model.predictor.depth
    context, target = mask
    if again:
        encoder = context * size.depth * size.embed_dim * value
        predictor = (context + target) * depth * width * FLOAT  # autocast leaves the predictor's stream in fp32
    else:
        encoder = saved_activations(context, size.embed_dim, size.mlp_dim, size.depth, value)
        predictor = saved_activations(context + target, width, 4 * width, depth, value)
    encoder += context * (tubelet_values(model) + ENDS * size.embed_dim) * value
    predictor += (context + target) * ENDS * width * value
    return encoder + predictor + 3 * target * output * FLOAT  # predictions, their targets, the loss's gradient


def _block_by_mask(model: ModelSpec, mask: MaskTokens, value: int) -> float:
    """Bytes that the backward pass of the largest single block needs of one clip under one mask."""
    size, width = model.encoder, model.predictor.embed_dim
    encoder = saved_activations(mask.context, size.embed_dim, size.mlp_dim, 1, value)
    return max(encoder, saved_activations(mask.context + mask.target, width, 4 * width, 1, value))


def probe_memory(recipe: ProbeRecipe, execution: ExecutionSpec, parameters: int) -> int:
    """Bytes of one worker of a probe: one encoder block's activations; the probe's input, normalised, its gradients."""
    probe, size = recipe.probe, recipe.model.encoder
    tokens, value = num_tokens(recipe.model, probe.clip), value_bytes(probe.precision)
    videos = min(execution.micro_batch or probe.optim.batch_size, probe.optim.batch_size)
    frozen = FLOAT * encoder_parameters(recipe.model)
    block = saved_activations(tokens, size.embed_dim, size.mlp_dim, 1, value)
    features = 4 * tokens * size.embed_dim * value
    per_video = probe.clips * (block + features + clip_values(probe.clip) * (1 + value))
    return round(frozen + (STATE_BYTES + GRADIENT_BYTES) * parameters + videos * per_video)


def finetune_memory(recipe: FinetuneRecipe, execution: ExecutionSpec, parameters: int) -> int:
    """Bytes of one worker that trains the whole encoder on every token, in bf16."""
    size, clip = recipe.model.encoder, recipe.finetune.clip
    kept = saved_activations(num_tokens(recipe.model, clip), size.embed_dim, size.mlp_dim, size.depth, 2)
    per_parameter = STATE_BYTES + GRADIENT_BYTES + CAST_BYTES["bf16"]
    return round(per_parameter * parameters + (execution.micro_batch or 1) * (kept + clip_values(clip) * FLOAT))
