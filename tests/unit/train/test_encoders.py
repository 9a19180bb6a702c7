"""The encoders that probes stand on: which weights, at which size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from vjepa_exp.spec.data import ClipSpec
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.pretrain import PixelsObjective
from vjepa_exp.spec.stages import PretrainRecipe, ProbeRecipe
from vjepa_exp.train.checkpoint import save_checkpoint
from vjepa_exp.train.encoders import frozen_encoder, load_target_encoder
from vjepa_exp.train.pretrain import initial_state, pretrain
from vjepa_exp.train.pretrain_step import PretrainState
from vjepa_exp.train.world import World
from vjepa_models.positions import position_table


def differing(here: torch.nn.Module, there: torch.nn.Module) -> list[str]:
    theirs = there.state_dict()
    return [name for name, value in here.state_dict().items() if not torch.equal(value, theirs[name])]


@pytest.fixture
def trained(recipe: PretrainRecipe, clips: Any, tmp_path: Path) -> PretrainState:
    """Trained for ten steps, its checkpoint in tmp_path."""
    state = pretrain(recipe, World(), clips().batches(0, 80, 8), order="order")
    save_checkpoint(tmp_path, state, recipe, "order")
    return state


def test_random_init_is_pretraining_before_its_first_step(recipe: PretrainRecipe, probe_recipe: ProbeRecipe) -> None:
    encoder = frozen_encoder(probe_recipe, None)
    assert differing(encoder, initial_state(recipe).model.encoder) == []
    other = frozen_encoder(probe_recipe.model_copy(update={"seed": 8}), None)
    assert "blocks.0.attn.qkv.weight" in differing(encoder, other)


def test_a_probe_stands_on_the_target_encoder(
    trained: PretrainState, probe_recipe: ProbeRecipe, tmp_path: Path
) -> None:
    encoder = frozen_encoder(probe_recipe, tmp_path)
    assert trained.target_encoder is not None
    assert differing(encoder, trained.target_encoder) == []
    assert "norm.weight" in differing(encoder, trained.model.encoder)
    assert not encoder.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_pixel_pretraining_hands_over_its_only_encoder(recipe: PretrainRecipe, tmp_path: Path) -> None:
    spec = recipe.pretrain.model_copy(update={"objective": PixelsObjective(kind="pixels")})
    recipe = recipe.model_copy(update={"pretrain": spec})
    state = initial_state(recipe)
    save_checkpoint(tmp_path, state, recipe, "order")
    assert differing(load_target_encoder(tmp_path, recipe.model, spec.data.clip), state.model.encoder) == []


def test_at_another_size_only_the_position_table_is_new(
    trained: PretrainState, recipe: PretrainRecipe, tmp_path: Path
) -> None:
    encoder = load_target_encoder(tmp_path, recipe.model, ClipSpec(num_frames=8, frame_step=1, resolution=48))
    assert encoder.config.grid == (4, 6, 6)
    assert torch.equal(encoder.pos_embed, position_table(24, (4, 6, 6), uniform_power=True))
    assert trained.target_encoder is not None
    weights = {k: v for k, v in trained.target_encoder.state_dict().items() if k != "pos_embed"}
    assert all(torch.equal(encoder.state_dict()[name], value) for name, value in weights.items())


def test_a_checkpoint_of_another_model_is_refused(
    trained: PretrainState, recipe: PretrainRecipe, tmp_path: Path
) -> None:
    wider = recipe.model.model_copy(update={"embed_dim": 48})
    with pytest.raises(UserError, match="holds another model"):
        load_target_encoder(tmp_path, wider, recipe.pretrain.data.clip)
