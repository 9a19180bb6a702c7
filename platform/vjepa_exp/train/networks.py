"""From specs to networks and mask samplers."""

from vjepa_exp.spec.data import ClipSpec
from vjepa_exp.spec.masks import MaskSpec, MultiBlockMask
from vjepa_exp.spec.model import ModelSpec
from vjepa_exp.spec.pretrain import Objective, PixelsObjective
from vjepa_models.encoder import EncoderConfig
from vjepa_models.masks import Mask, MultiBlock, RandomTube
from vjepa_models.predictor import PredictorConfig


def encoder_config(model: ModelSpec, clip: ClipSpec) -> EncoderConfig:
    """Sizes of the encoder for clips of this size."""
    arch = model.encoder
    return EncoderConfig(
        embed_dim=arch.embed_dim,
        depth=arch.depth,
        num_heads=arch.num_heads,
        mlp_ratio=arch.mlp_ratio,
        num_frames=clip.num_frames,
        resolution=clip.resolution,
        patch_size=model.patch_size,
        tubelet_size=model.tubelet_size,
        uniform_power=model.uniform_power,
    )


def predictor_config(model: ModelSpec, encoder: EncoderConfig, objective: Objective, num_masks: int) -> PredictorConfig:
    """Sizes of the predictor, with one mask token per mask configuration."""
    return PredictorConfig(
        context_dim=encoder.embed_dim,
        out_dim=encoder.tubelet_dim if isinstance(objective, PixelsObjective) else encoder.embed_dim,
        grid=encoder.grid,
        embed_dim=model.predictor.embed_dim,
        depth=model.predictor.depth,
        num_heads=model.predictor_heads,
        num_mask_tokens=num_masks,
        uniform_power=model.uniform_power,
    )


def mask_sampler(spec: MaskSpec) -> Mask:
    """The sampler of a mask configuration."""
    if isinstance(spec, MultiBlockMask):
        return MultiBlock(**spec.model_dump(exclude={"kind"}))
    return RandomTube(spec.ratio)
