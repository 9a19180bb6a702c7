"""`weights import | export | verify`: the released checkpoint layout, safetensors, and golden outputs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vjepa_exp.commands.console import console, grid
from vjepa_exp.graph.store import RECORD
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.problems import nearest
from vjepa_exp.spec.stages import PretrainRecipe
from vjepa_exp.train import checkpoint as training
from vjepa_exp.train.pretrain import initial_state
from vjepa_exp.train.verify import verify as compare
from vjepa_models.archs import ARCHS
from vjepa_models.encoder import EncoderConfig, VideoEncoder
from vjepa_models.predictor import Predictor, PredictorConfig
from vjepa_models.probes import AttentiveProbe
from vjepa_models.zoo.vjepa import (
    CheckpointError,
    PretrainedModel,
    load_strict,
    read_checkpoint,
    read_pretrained,
    read_probe,
    write_pretrained,
    write_probe,
)

WEIGHTS, CONFIG = "weights.safetensors", "config.json"
NETWORKS = ("encoder", "predictor", "target_encoder")

Tensors = dict[str, Tensor]
"""Tensors by `<network>.<key>`."""
Config = dict[str, Any]
"""Content of `config.json`."""


def import_file(file: Path, out: Path, num_heads: int | None) -> None:
    """Read a released checkpoint or probe strictly; write `weights.safetensors` and `config.json` into `out`.

    The number of attention heads leaves no trace in the tensors: where no named architecture has these sizes and it is
    not told, it stays null in `config.json`.

    Raises:
        UserError: the file is not of the released layout.
    """
    try:
        if "classifier" in read_checkpoint(file):
            tensors, config = _probe_content(read_probe(file, num_heads or 1), num_heads)
        else:
            tensors, config = _networks_content(read_pretrained(file, num_heads or 1), num_heads)
    except (CheckpointError, ValueError) as error:  # ValueError: heads that do not divide the width
        raise UserError(str(error)) from None
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out / WEIGHTS)
    (out / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    _describe(config, tensors)
    console().print(f"written: {out / WEIGHTS}, {out / CONFIG}", soft_wrap=True)


def export(source: str, out: Path, store: Path) -> None:
    """Write imported weights, or those of a pretrain stage, in the released layout.

    Raises:
        UserError: there is no such source, or the stage predicts pixels and has no target encoder.
    """
    folder = Path(source)
    if (folder / CONFIG).is_file():
        tensors, config = _read_folder(folder)
    else:
        tensors, config = _networks_content(*_pretrained(source, store))
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        if config["kind"] == "probe":
            write_probe(out, _probe(tensors, config))
        else:
            write_pretrained(out, _networks(tensors, config))
    except (CheckpointError, KeyError, TypeError) as error:
        raise UserError(f"{source}: {WEIGHTS} and {CONFIG} do not fit each other ({error})") from None
    _describe(config, tensors)
    console().print(f"written: {out}", soft_wrap=True)


def verify(file: Path, golden: Path, device: str) -> bool:
    """Print the largest difference of every golden quantity; whether all lie within their tolerance.

    Raises:
        UserError: a file is missing, damaged, or does not fit the golden set.
    """
    rows = compare(file, golden, device)
    lines = [(r.name, f"{r.max_abs_diff:.2e}", f"{r.tolerance:.0e}", "ok" if r.ok else "DIFFERS") for r in rows]
    out = console()
    out.print(grid(("quantity", "max difference", "tolerance", ""), lines, right=(1, 2)))
    agree = sum(row.ok for row in rows)
    out.print(f"{agree} of {len(rows)} agree")
    return agree == len(rows)


def _networks_content(model: PretrainedModel, num_heads: int | None) -> tuple[Tensors, Config]:
    size = model.encoder.config
    named = (arch.num_heads for arch in ARCHS.values() if (arch.embed_dim, arch.depth) == (size.embed_dim, size.depth))
    heads = num_heads or next(named, None)
    config = {
        "kind": "networks",
        "num_heads": heads,
        "encoder": {**asdict(size), "num_heads": heads},
        "predictor": {**asdict(model.predictor.config), "num_heads": heads},
        "metadata": dict(model.metadata),
    }
    return _flat({name: getattr(model, name) for name in NETWORKS}), config


def _networks(tensors: Tensors, config: Config) -> PretrainedModel:
    heads = {"num_heads": config["num_heads"] or 1}
    grid = tuple(config["predictor"]["grid"])
    encoder = EncoderConfig(**{**config["encoder"], **heads})
    predictor = PredictorConfig(**{**config["predictor"], **heads, "grid": grid})
    model = PretrainedModel(VideoEncoder(encoder), Predictor(predictor), VideoEncoder(encoder), config["metadata"])
    for name in NETWORKS:
        load_strict(getattr(model, name), _below(tensors, name), name)
    return model


def _probe_content(probe: AttentiveProbe, num_heads: int | None) -> tuple[Tensors, Config]:
    dim, classes = probe.linear.in_features, probe.linear.out_features
    hidden = probe.pooler.cross_attention_block.mlp.fc1.out_features
    depth = 1 + len(getattr(probe.pooler, "blocks", ()))
    sizes = {"embed_dim": dim, "num_classes": classes, "depth": depth, "mlp_ratio": hidden / dim}
    return _flat({"probe": probe}), {"kind": "probe", "num_heads": num_heads, **sizes}


def _probe(tensors: Tensors, config: Config) -> AttentiveProbe:
    sizes = {key: value for key, value in config.items() if key not in ("kind", "num_heads")}
    probe = AttentiveProbe(num_heads=config["num_heads"] or 1, **sizes)
    load_strict(probe, _below(tensors, "probe"), "probe")
    return probe


def _read_folder(folder: Path) -> tuple[Tensors, Config]:
    try:
        return load_file(folder / WEIGHTS), json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"{folder}: not a folder made by vjepa-exp weights import ({error})") from None


def _pretrained(stage: str, store: Path) -> tuple[PretrainedModel, int]:
    """The networks of a pretrain stage and the number of attention heads."""
    folder = store / stage
    if not (folder / RECORD).is_file():
        known = sorted(path.parent.name for path in store.glob(f"pretrain-*/{RECORD}"))
        raise UserError(
            f"'{stage}' is neither a folder made by vjepa-exp weights import nor a finished pretrain stage in the "
            f"store {store}.{nearest(stage, known)} Stages: {', '.join(known) or 'none'}"
        )
    saved = training.read_checkpoint(folder / "checkpoint", PretrainRecipe)
    recipe = saved.recipe
    if recipe.pretrain.objective.kind != "features":
        raise UserError(f"{stage} predicts {recipe.pretrain.objective.kind}: the released layout has no place for it")
    state = initial_state(recipe)
    state.load_state_dict(saved.state)
    assert state.target_encoder is not None
    networks = PretrainedModel(state.model.encoder, state.model.predictor, state.target_encoder)
    return networks, recipe.model.encoder.num_heads


def _flat(modules: dict[str, nn.Module]) -> Tensors:
    return {f"{name}.{k}": v.contiguous() for name, module in modules.items() for k, v in module.state_dict().items()}


def _below(tensors: Tensors, name: str) -> Tensors:
    return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}


def _describe(config: Config, tensors: Tensors) -> None:
    out = console()
    size = config.get("encoder", config)
    heads = config["num_heads"] or "unknown (--num-heads)"
    words = [f"width {size['embed_dim']}", f"depth {size['depth']}", f"heads {heads}"]
    if config["kind"] == "probe":
        words.append(f"classes {config['num_classes']}")
    else:
        tubelet = f"{size['tubelet_size']} x {size['patch_size']} x {size['patch_size']}"
        words += [f"clips of {size['num_frames']} frames at {size['resolution']}", f"tubelets {tubelet}"]
    out.print(", ".join(words), soft_wrap=True)
    names = dict.fromkeys(key.split(".")[0] for key in tensors)
    rows = [(name, f"{sum(tensor.numel() for tensor in _below(tensors, name).values()):,}") for name in names]
    out.print(grid(("network", "numbers"), rows, right=(1,)))
