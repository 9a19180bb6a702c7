"""The checkpoint layout of the released V-JEPA models: read, infer sizes, load strictly, write.

A pre-training file is a dict with `encoder`, `predictor` and `target_encoder`, whose keys begin with
`module.backbone.`, and a few numbers (`epoch`, `loss`, ...). A probe file holds `classifier`, whose keys begin with
`module.`. Evaluation uses the target encoder.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf, isqrt, nextafter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vjepa_models.archs import ARCHS
from vjepa_models.encoder import EncoderConfig, VideoEncoder
from vjepa_models.positions import Grid, position_table
from vjepa_models.predictor import Predictor, PredictorConfig
from vjepa_models.probes import AttentiveProbe

StateDict = Mapping[str, Tensor]
PREFIX = "module.backbone."
PROBE_PREFIX = "module."
METADATA = ("epoch", "loss", "batch_size", "world_size", "lr")
TABLE_TOLERANCE = 1e-2


class CheckpointError(ValueError):
    """A file that is not a checkpoint of this layout, or does not fit the model."""


@dataclass(frozen=True)
class PretrainedModel:
    """The networks of a pre-training file and the numbers stored beside them (`epoch`, `loss`, `lr`, ...)."""

    encoder: VideoEncoder
    predictor: Predictor
    target_encoder: VideoEncoder
    metadata: Mapping[str, int | float] = field(default_factory=dict)


def read_pretrained(path: Path, num_heads: int | None = None, predictor_heads: int | None = None) -> PretrainedModel:
    """The networks of a pre-training file, sizes inferred from its tensors.

    Args:
        path: the file.
        num_heads: heads of the encoder; needed where width and depth are not those of a named architecture.
        predictor_heads: heads of the predictor; the encoder's where None.

    Raises:
        CheckpointError: not readable, not of this layout, or of unknown sizes.
    """
    checkpoint = read_checkpoint(path)
    states = {name: model_state(checkpoint, name, path) for name in ("encoder", "predictor", "target_encoder")}
    config = infer_encoder_config(states["encoder"], num_heads)
    predictor = Predictor(infer_predictor_config(states["predictor"], config, predictor_heads), device="meta")
    model = PretrainedModel(
        VideoEncoder(config, device="meta").to_empty(device="cpu"),
        predictor.to_empty(device="cpu"),
        VideoEncoder(config, device="meta").to_empty(device="cpu"),
        {name: checkpoint[name] for name in METADATA if name in checkpoint},
    )
    for name, state in states.items():
        load_strict(getattr(model, name), state, f"{path}: {name}")
    return model


def write_pretrained(path: Path, model: PretrainedModel, optimiser: Mapping[str, Any] | None = None) -> None:
    """Write a pre-training file in the released layout.

    `optimiser` is the `state_dict` of an AdamW with the four released parameter groups. The file appears
    whole or not at all.
    """
    checkpoint = {name: model.metadata.get(name, 0) for name in METADATA}
    networks = {
        name: {PREFIX + key: value for key, value in getattr(model, name).state_dict().items()}
        for name in ("encoder", "predictor", "target_encoder")
    }
    _save(path, {**networks, "opt": optimiser, "scaler": None, **checkpoint})


def read_probe(path: Path, num_heads: int) -> AttentiveProbe:
    """The attentive probe of a probe file, sizes inferred from its tensors.

    Raises:
        CheckpointError: not readable or not of this layout.
    """
    state = model_state(read_checkpoint(path), "classifier", path)
    num_classes, dim = _shape(state, "linear.weight", 2, path)
    hidden, _ = _shape(state, "pooler.cross_attention_block.mlp.fc1.weight", 2, path)
    depth = 1 + _count(state, "pooler.blocks.")
    probe = AttentiveProbe(dim, num_heads, num_classes, depth=depth, mlp_ratio=_mlp_ratio(hidden, dim))
    load_strict(probe, state, f"{path}: classifier")
    return probe


def write_probe(path: Path, probe: AttentiveProbe, metadata: Mapping[str, int | float] | None = None) -> None:
    """Write a probe file in the released layout; the file appears whole or not at all."""
    state = {PROBE_PREFIX + key: value for key, value in probe.state_dict().items()}
    _save(path, {"classifier": state, **(metadata or {})})


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The dict in a file, its tensors mapped rather than read; refuses everything that is not plain data.

    Raises:
        CheckpointError: no such file, or not a checkpoint.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch.load has no common error for bytes that are not its own
        raise CheckpointError(f"{path}: not a checkpoint that PyTorch can read ({_first_line(error)})") from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f"{path}: holds a {type(checkpoint).__name__}, not a dict of networks")
    return checkpoint


def model_state(checkpoint: Mapping[str, Any], name: str, path: Path) -> StateDict:
    """The tensors of one network, without the prefixes of the wrappers it was trained in.

    Raises:
        CheckpointError: the file does not hold this network.
    """
    state = checkpoint.get(name)
    if not isinstance(state, Mapping):
        raise CheckpointError(f"{path}: holds no {name!r} (it has: {', '.join(sorted(map(str, checkpoint)))})")
    return {key.removeprefix("module.").removeprefix("backbone."): value for key, value in state.items()}


def load_strict(module: nn.Module, state: StateDict, what: str) -> None:
    """Load every tensor of `state` into `module`.

    Raises:
        CheckpointError: names the missing and unexpected keys and the shapes that differ.
    """
    own = module.state_dict()
    problems = {
        "missing": sorted(own.keys() - state.keys()),
        "unexpected": sorted(state.keys() - own.keys()),
        "of another shape": [
            f"{key} ({list(state[key].shape)}, here {list(own[key].shape)})"
            for key in own
            if key in state and state[key].shape != own[key].shape
        ],
    }
    text = "; ".join(f"{len(keys)} {kind}: {', '.join(keys)}" for kind, keys in problems.items() if keys)
    if text:
        raise CheckpointError(f"{what} does not fit the model: {text}")
    module.load_state_dict(state)


def load_for_size(encoder: VideoEncoder, state: StateDict, what: str) -> None:
    """Load an encoder trained on another clip size, keeping the position table of its own size.

    The released loader does the same. It is not the interpolation that `VideoEncoder.forward` applies to clips of
    another size than configured.

    Raises:
        CheckpointError: see `load_strict`.
    """
    load_strict(encoder, {**state, "pos_embed": encoder.pos_embed.detach()}, what)


def infer_encoder_config(state: StateDict, num_heads: int | None = None) -> EncoderConfig:
    """The sizes of an encoder from its tensors; clip size and kind of position table from the table itself.

    Raises:
        CheckpointError: a tensor is missing, or `num_heads` is None and no named architecture has these sizes.
    """
    dim, _, tubelet_size, patch_size, _ = _shape(state, "patch_embed.proj.weight", 5)
    depth = _count(state, "blocks.")
    hidden, _ = _shape(state, "blocks.0.mlp.fc1.weight", 2)
    if num_heads is None:
        named = [arch for arch in ARCHS.values() if (arch.embed_dim, arch.depth) == (dim, depth)]
        if not named:
            raise CheckpointError(f"no named architecture has width {dim} and depth {depth}: give the number of heads")
        num_heads = named[0].num_heads
    grid, uniform_power = _infer_grid(state, dim)
    return EncoderConfig(
        embed_dim=dim,
        depth=depth,
        num_heads=num_heads,
        mlp_ratio=_mlp_ratio(hidden, dim),
        num_frames=grid[0] * tubelet_size,
        resolution=grid[1] * patch_size,
        patch_size=patch_size,
        tubelet_size=tubelet_size,
        uniform_power=uniform_power,
    )


def infer_predictor_config(state: StateDict, encoder: EncoderConfig, num_heads: int | None = None) -> PredictorConfig:
    """The sizes of a predictor from its tensors and its encoder.

    Raises:
        CheckpointError: a tensor is missing.
    """
    dim, context_dim = _shape(state, "predictor_embed.weight", 2)
    out_dim, _ = _shape(state, "predictor_proj.weight", 2)
    hidden, _ = _shape(state, "predictor_blocks.0.mlp.fc1.weight", 2)
    return PredictorConfig(
        context_dim=context_dim,
        out_dim=out_dim,
        grid=encoder.grid,
        embed_dim=dim,
        depth=_count(state, "predictor_blocks."),
        num_heads=num_heads or encoder.num_heads,
        mlp_ratio=_mlp_ratio(hidden, dim),
        num_mask_tokens=_count(state, "mask_tokens."),
        uniform_power=encoder.uniform_power,
    )


def _infer_grid(state: StateDict, dim: int) -> tuple[Grid, bool]:
    """The grid and kind of table whose formula gives the stored table (which EMA may have moved by 1e-4)."""
    _, num_tokens, _ = _shape(state, "pos_embed", 3)
    best: tuple[float, Grid, bool] = (TABLE_TOLERANCE, (0, 0, 0), True)
    for steps in range(1, num_tokens + 1):
        side = isqrt(num_tokens // steps)
        if steps * side**2 != num_tokens:
            continue
        for uniform_power in (True, False) if dim % 8 == 0 else (True,):
            table = position_table(dim, (steps, side, side), uniform_power)
            distance = float((table - state["pos_embed"]).abs().max())
            best = min(best, (distance, (steps, side, side), uniform_power))
    if best[0] == TABLE_TOLERANCE:
        raise CheckpointError(f"the position table of {num_tokens} tokens is no sine-cosine table of a square clip")
    return best[1], best[2]


def _shape(state: StateDict, key: str, ndim: int, path: Path | None = None) -> torch.Size:
    if key not in state or state[key].ndim != ndim:
        raise CheckpointError(f"{f'{path}: ' if path else ''}no tensor {key!r} with {ndim} axes")
    return state[key].shape


def _mlp_ratio(hidden: int, dim: int) -> float:
    """The ratio with int(dim * ratio) == hidden; the quotient alone may be rounded down below it."""
    ratio = hidden / dim
    return ratio if int(dim * ratio) == hidden else nextafter(ratio, inf)


def _count(state: StateDict, prefix: str) -> int:
    """Number of different indices that follow `prefix` in the keys."""
    return len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})


def _save(path: Path, checkpoint: dict[str, Any]) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        torch.save(checkpoint, aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
