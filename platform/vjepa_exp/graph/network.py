"""Parameters and FLOPs of the networks, by counting (a multiply-add is two FLOPs).

Norms, activations, softmax and position tables are left out of the FLOPs: under two percent of any model here.
"""

from __future__ import annotations

from vjepa_exp.spec.evaluate import ProbeSpec
from vjepa_exp.spec.model import ModelSpec

PROBE_MLP_RATIO = 4
SINGLE = 4
"""Bytes of a number in single precision."""
SAVED_WIDTHS = 8
"""Activations that a transformer block keeps for the backward pass, in widths per token, besides two MLP widths."""


def block_parameters(width: int, mlp: int) -> int:
    """Two norms, attention with biases, MLP."""
    return 4 * width + (3 * width * width + 3 * width) + (width * width + width) + 2 * width * mlp + mlp + width


def block_flops(tokens: float, width: int, mlp: int) -> float:
    """One block over `tokens` tokens that all attend to each other."""
    return 2 * tokens * (4 * width * width + 2 * width * mlp) + 4 * tokens * tokens * width


def recomputed_flops(tokens: float, width: int, mlp: int) -> float:
    """One block's forward pass again for its backward pass: all but the last product, which that does not need."""
    return block_flops(tokens, width, mlp) - 2 * tokens * width * mlp


def tubelet_values(model: ModelSpec) -> int:
    """Numbers in one tubelet of pixels."""
    return 3 * model.tubelet_size * model.patch_size**2


def encoder_parameters(model: ModelSpec) -> int:
    """Without the position table, which is fixed."""
    size = model.encoder
    embed = tubelet_values(model) * size.embed_dim + size.embed_dim
    return embed + size.depth * block_parameters(size.embed_dim, size.mlp_dim) + 2 * size.embed_dim


def encoder_flops(model: ModelSpec, tokens: float) -> float:
    """Forward pass of one clip of which the encoder sees `tokens` tokens."""
    size = model.encoder
    embed = 2 * tokens * tubelet_values(model) * size.embed_dim
    return embed + size.depth * block_flops(tokens, size.embed_dim, size.mlp_dim)


def predictor_parameters(model: ModelSpec, num_masks: int, output: int) -> int:
    """With a mask token per mask configuration; `output` numbers are predicted per token."""
    width, source = model.predictor.embed_dim, model.encoder.embed_dim
    ends = (source * width + width) + (width * output + output) + 2 * width
    return ends + num_masks * width + model.predictor.depth * block_parameters(width, 4 * width)


def predictor_flops(model: ModelSpec, context: float, target: float, output: int) -> float:
    """Forward pass of one clip and one mask."""
    width, source = model.predictor.embed_dim, model.encoder.embed_dim
    ends = 2 * context * source * width + 2 * target * width * output
    return ends + model.predictor.depth * block_flops(context + target, width, 4 * width)


def probe_parameters(model: ModelSpec, probe: ProbeSpec, classes: int) -> int:
    """All weights of a probe, the released layout's unused projection among them."""
    width = model.encoder.embed_dim
    classifier = width * classes + classes
    if probe.kind == "linear_probe":
        return classifier
    mlp = PROBE_MLP_RATIO * width
    cross = 5 * width + 4 * (width * width + width) + 2 * width * mlp + mlp + width
    return cross + (probe.depth - 1) * block_parameters(width, mlp) + classifier


def probe_flops(model: ModelSpec, probe: ProbeSpec, tokens: int, classes: int) -> float:
    """Forward pass of a probe over the tokens of one video: no token is projected, every head reads them whole."""
    width, heads = model.encoder.embed_dim, model.encoder.num_heads
    classifier = 2.0 * width * classes
    if probe.kind == "linear_probe":
        return classifier
    mlp = PROBE_MLP_RATIO * width
    cross = 4 * tokens * heads * width + 2 * (3 * width * width + 2 * width * mlp)
    return cross + (probe.depth - 1) * block_flops(1, width, mlp) + classifier


def saved_activations(tokens: float, width: int, mlp: int, depth: int, bytes_per_value: int) -> float:
    """Bytes that `depth` blocks keep for the backward pass.

    In half precision the two norms of a block still compute, and keep what they are given, in single precision.
    """
    norms = 2 * width * (SINGLE - bytes_per_value)
    return depth * tokens * ((SAVED_WIDTHS * width + 2 * mlp) * bytes_per_value + norms)
