"""Frozen encoders for evaluation: the y-encoder of a pretraining, or the same network before its first step."""

from pathlib import Path

from vjepa_exp.spec.data import ClipSpec
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.model import ModelSpec
from vjepa_exp.spec.stages import PretrainRecipe, ProbeRecipe
from vjepa_exp.train.checkpoint import read_checkpoint
from vjepa_exp.train.networks import encoder_config
from vjepa_models.encoder import VideoEncoder
from vjepa_models.zoo.vjepa import load_for_size, load_strict


def frozen_encoder(recipe: ProbeRecipe, checkpoint: Path | None) -> VideoEncoder:
    """The encoder that a probe stands on, on the CPU.

    Args:
        recipe: of the probe.
        checkpoint: folder of its pretraining's checkpoint; None for `random_init`.

    Raises:
        UserError: the checkpoint cannot be read or holds another model.
    """
    if checkpoint is None:
        encoder = VideoEncoder(encoder_config(recipe.model, recipe.probe.clip), recipe.seed)
        return encoder.requires_grad_(False).eval()
    return load_target_encoder(checkpoint, recipe.model, recipe.probe.clip)


def load_target_encoder(folder: Path, model: ModelSpec, clip: ClipSpec) -> VideoEncoder:
    """The y-encoder of a checkpoint for clips of this size (the x-encoder where pixels were predicted).

    At the size of pretraining the position table is the stored one, which the EMA moved a little; at another size it
    is computed anew, as the released evaluation does (method facts 1.7 and 5).

    Raises:
        UserError: the checkpoint cannot be read or holds another model.
    """
    checkpoint = read_checkpoint(folder, PretrainRecipe)
    if checkpoint.recipe.model != model:
        raise UserError(f"checkpoint {folder} holds another model than the recipe asks for")
    encoder = VideoEncoder(encoder_config(model, clip))
    weights = checkpoint.state["target_encoder"] or checkpoint.state["encoder"]
    same_size = encoder.config.grid == encoder_config(model, checkpoint.recipe.pretrain.data.clip).grid
    (load_strict if same_size else load_for_size)(encoder, weights, "encoder")
    return encoder.requires_grad_(False).eval()
