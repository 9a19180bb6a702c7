"""Compare a checkpoint in the released layout with golden numbers, through the networks and the step used for training.

A golden folder holds `config.json` (sizes and settings), `golden.npz` (inputs and outputs of the reference, fp32 on
CPU) and, optionally, `probe.pth.tar`. Arrays that are not there are not compared.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.pretrain import FeaturesObjective, OptimSpec
from vjepa_exp.train.mask_groups import MaskGroup, MaskPair
from vjepa_exp.train.pretrain_step import PretrainModel, PretrainState, make_pretrain_step, make_targets
from vjepa_models.encoder import EncoderConfig, VideoEncoder
from vjepa_models.layers import gather_tokens
from vjepa_models.predictor import Predictor
from vjepa_models.zoo.vjepa import (
    infer_predictor_config,
    load_strict,
    model_state,
    read_checkpoint,
    read_probe,
)

TOLERANCE = 1e-5
GRAD_NORM_TOLERANCE = 1e-4
TRAINING = {"loss", "lr", "weight_decay", "momentum", "grad_norm", "target_features_after", "encoder_features_after"}


class Row(NamedTuple):
    """One compared quantity: maximal absolute difference over all elements (and steps)."""

    name: str
    max_abs_diff: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether the difference lies within the tolerance (a NaN does not)."""
        return self.max_abs_diff <= self.tolerance


@dataclass(frozen=True)
class Golden:
    """Settings, arrays and folder of one golden set, and the device that is compared with it."""

    config: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]
    folder: Path
    device: str

    @classmethod
    def read(cls, folder: Path, device: str = "cpu") -> "Golden":
        """Read a golden folder; raises UserError where its files are missing or damaged."""
        try:
            config = json.loads((folder / "config.json").read_text())
            with np.load(folder / "golden.npz") as arrays:
                return cls(config, dict(arrays), folder, device)
        except (OSError, ValueError, BadZipFile) as error:
            raise UserError(f"{folder}: not a folder of golden numbers (config.json, golden.npz): {error}") from error

    def tensor(self, name: str) -> Tensor:
        """An array as a tensor on the device."""
        return torch.from_numpy(self.arrays[name]).to(self.device)

    def masks(self, step: int) -> MaskGroup:
        """Mask indices of a step (counted from 0), one pair per mask configuration."""
        return tuple(
            MaskPair(self.tensor(f"step{step}_context_index_{i}"), self.tensor(f"step{step}_target_index_{i}"))
            for i in range(len(self.config["masks"]))
        )

    def compare(self, name: str, ours: Tensor, tolerance: float = TOLERANCE) -> Iterator[Row]:
        """The row of one array, nothing where the set lacks it; another shape is off by infinity."""
        if name not in self.arrays:
            return
        golden = torch.from_numpy(self.arrays[name]).double()
        same_shape = golden.shape == ours.shape
        difference = float((ours.cpu().double() - golden).abs().max()) if same_shape else float("inf")
        yield Row(name, difference, tolerance)


def verify(checkpoint: Path, golden_dir: Path, device: str = "cpu") -> list[Row]:
    """Compare everything that a golden folder holds with what this device computes.

    Raises:
        UserError: a file is missing, damaged, or does not fit the settings; there is no such device.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("PyTorch finds no CUDA device here")
    golden = Golden.read(golden_dir, device)
    try:
        state = load_state(checkpoint, golden.config, device)
        return [
            *_compare_features(golden, state),
            *_compare_probe(golden, state),
            *_compare_first_step(golden, state),
            *_compare_training(golden, state),
        ]
    except KeyError as error:
        raise UserError(f"{golden_dir}: config.json or golden.npz lacks {error}") from error
    except ValueError as error:  # sizes that fit neither each other nor the checkpoint
        raise UserError(f"{golden_dir}: {error}") from error


def load_state(checkpoint: Path, config: Mapping[str, Any], device: str = "cpu") -> PretrainState:
    """The training state before step 1 with the weights of a checkpoint and the settings of a golden set."""
    encoder_config = EncoderConfig(
        embed_dim=config["embed_dim"],
        depth=config["depth"],
        num_heads=config["num_heads"],
        mlp_ratio=config["mlp_ratio"],
        num_frames=config["num_frames"],
        resolution=config["crop_size"],
        patch_size=config["patch_size"],
        tubelet_size=config["tubelet_size"],
        uniform_power=config["uniform_power"],
        layer_norm_eps=config["layer_norm_eps"],
    )
    stored = read_checkpoint(checkpoint)
    states = {name: model_state(stored, name, checkpoint) for name in ("encoder", "predictor", "target_encoder")}
    predictor_config = infer_predictor_config(states["predictor"], encoder_config, config["predictor_num_heads"])
    encoder, target_encoder = (VideoEncoder(encoder_config, device=device) for _ in range(2))
    predictor = Predictor(replace(predictor_config, layer_norm_eps=config["layer_norm_eps"]), device=device)
    for network, name in ((encoder, "encoder"), (predictor, "predictor"), (target_encoder, "target_encoder")):
        load_strict(network, states[name], f"{checkpoint}: {name}")
    model = PretrainModel(encoder, predictor, FeaturesObjective())
    return PretrainState.of(model, target_encoder, optim_spec(config))


def optim_spec(config: Mapping[str, Any]) -> OptimSpec:
    """The optimisation of a golden set: its schedules, no clipping."""
    optimiser = config["optimiser"]
    epoch = optimiser["iterations_per_epoch"]
    ema, final_ema = optimiser["ema"]
    same_name = ("start_lr", "lr", "final_lr", "weight_decay", "final_weight_decay", "schedule_scale", "eps")
    return OptimSpec(
        batch_size=config["batch_size"],
        iterations=epoch * optimiser["epochs"],
        warmup=int(epoch * optimiser["warmup_epochs"]),
        betas=tuple(optimiser["betas"]),
        ema=ema,
        final_ema=final_ema,
        clip_grad=None,
        **{name: optimiser[name] for name in same_name},
    )


@torch.no_grad()
def _compare_features(golden: Golden, state: PretrainState) -> Iterator[Row]:
    assert state.target_encoder is not None
    for clips, features in (
        ("clips", "target_features"),
        ("clips_interpolated", "target_features_interpolated"),
    ):
        if clips in golden.arrays:
            yield from golden.compare(features, state.target_encoder(golden.tensor(clips)))


@torch.no_grad()
def _compare_probe(golden: Golden, state: PretrainState) -> Iterator[Row]:
    assert state.target_encoder is not None
    if "probe_logits" not in golden.arrays:
        return
    probe = read_probe(golden.folder / "probe.pth.tar", golden.config["num_heads"]).to(golden.device)
    yield from golden.compare("probe_logits", probe(state.target_encoder(golden.tensor("clips"))))


@torch.no_grad()
def _compare_first_step(golden: Golden, state: PretrainState) -> Iterator[Row]:
    """Context features, predictions and targets before any update."""
    if "step0_context_index_0" not in golden.arrays:
        return
    clips_BCTHW = golden.tensor("clips")
    targets_BND = make_targets(state, clips_BCTHW)
    for i, pair in enumerate(golden.masks(0)):
        context_BKD = state.model.encoder(clips_BCTHW, pair.context)
        yield from golden.compare(f"context_features_{i}", context_BKD)
        yield from golden.compare(f"predictions_{i}", state.model.predict(clips_BCTHW, pair, i))
        yield from golden.compare(f"targets_{i}", gather_tokens(targets_BND, pair.target))


def _compare_training(golden: Golden, state: PretrainState) -> Iterator[Row]:
    """The training steps, then the features of the trained encoders."""
    if golden.arrays.keys().isdisjoint(TRAINING):
        return
    clips_BCTHW = golden.tensor("clips")
    train = make_pretrain_step(optim_spec(golden.config))
    metrics = [train(state, clips_BCTHW, [golden.masks(step)]) for step in range(golden.config["steps"])]
    grad_norms = [torch.hypot(m.encoder_grad_norm, m.predictor_grad_norm) for m in metrics]
    yield from golden.compare("loss", torch.stack([m.loss for m in metrics]))
    for name in ("lr", "weight_decay", "momentum"):
        yield from golden.compare(name, torch.tensor([getattr(m, name) for m in metrics], dtype=torch.float64))
    yield from golden.compare("grad_norm", torch.stack(grad_norms), GRAD_NORM_TOLERANCE)
    with torch.no_grad():
        assert state.target_encoder is not None
        yield from golden.compare("target_features_after", state.target_encoder(clips_BCTHW))
        yield from golden.compare("encoder_features_after", state.model.encoder(clips_BCTHW))
