"""Prints by how many bytes real pretraining steps raise the peak of this process: peak_memory.py RECIPE MICRO_BATCH."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from vjepa_exp.spec.model import ModelSpec
from vjepa_exp.spec.stages import PretrainRecipe
from vjepa_exp.train.mask_groups import draw_masks
from vjepa_exp.train.pretrain import initial_state
from vjepa_exp.train.pretrain_step import make_pretrain_step


def train(recipe: PretrainRecipe, micro_batch: int, steps: int) -> None:
    """Steps on random clips; the second one is the first with optimiser state."""
    spec, clip = recipe.pretrain, recipe.pretrain.data.clip
    state = initial_state(recipe)
    step_fn = make_pretrain_step(spec.optim, micro_batch=micro_batch)
    for step in range(1, steps + 1):
        clips = torch.randn(spec.optim.batch_size, 3, clip.num_frames, clip.resolution, clip.resolution)
        masks = draw_masks(spec, state.model.encoder.config.grid, recipe.seed, step, range(spec.optim.batch_size))
        step_fn(state, clips, masks)


def memory(name: str) -> int:
    """A size of this process out of /proc, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


def small(recipe: PretrainRecipe) -> PretrainRecipe:
    """The recipe with a network of nothing: what a first step loads of the libraries is no memory of a model."""
    tiny = {"arch": "vit_tiny", "predictor": {"depth": 1, "embed_dim": 96}}
    model = ModelSpec.model_validate(tiny)
    clip = recipe.pretrain.data.clip.model_copy(update={"num_frames": 4, "resolution": 64})
    data = recipe.pretrain.data.model_copy(update={"clip": clip})
    return recipe.model_copy(update={"model": model, "pretrain": recipe.pretrain.model_copy(update={"data": data})})


if __name__ == "__main__":
    torch.set_num_threads(1)
    recipe, micro_batch = PretrainRecipe.model_validate_json(sys.argv[1]), int(sys.argv[2])
    train(small(recipe), micro_batch, steps=2)
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    train(recipe, micro_batch, steps=2)
    sys.stdout.write(str(memory("VmHWM") - before))
