"""Pretraining: bit-for-bit resume, the independence of its numbers from execution, and that it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.pretrain import FeaturesObjective, PixelsObjective
from vjepa_exp.spec.stages import PretrainRecipe
from vjepa_exp.train.checkpoint import save_checkpoint
from vjepa_exp.train.loop import StepInfo
from vjepa_exp.train.parallel import recompute_blocks
from vjepa_exp.train.pretrain import initial_state, pretrain
from vjepa_exp.train.pretrain_step import PretrainState
from vjepa_exp.train.world import World

Losses = dict[int, float]


def train(
    recipe: PretrainRecipe, clips: Any, *, first: int = 0, save: tuple[int, Path] | None = None, **options: Any
) -> tuple[PretrainState, Losses]:
    """Train from step `first` to the end in a world of one; `save` writes a checkpoint after a step."""
    losses: Losses = {}

    def note(info: StepInfo[PretrainState]) -> None:
        losses[info.step] = info.metrics.to_floats()["loss"]
        if save is not None and info.step == save[0]:
            save_checkpoint(save[1], info.state, recipe, "order")

    optim = recipe.pretrain.optim
    batches = clips().batches(first * optim.batch_size, optim.iterations * optim.batch_size, optim.batch_size)
    return pretrain(recipe, World(), batches, order="order", hooks=[note], **options), losses


def tensors(state: PretrainState) -> dict[str, torch.Tensor]:
    """Every tensor of a state by name, the optimiser's included."""
    flat: dict[str, torch.Tensor] = {}

    def walk(value: Any, name: str) -> None:
        if isinstance(value, torch.Tensor):
            flat[name] = value
        elif isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, f"{name}.{key}")

    walk(state.state_dict(), "")
    return flat


def with_pretrain(recipe: PretrainRecipe, **changes: Any) -> PretrainRecipe:
    return recipe.model_copy(update={"pretrain": recipe.pretrain.model_copy(update=changes)})


def with_optim(recipe: PretrainRecipe, **changes: Any) -> PretrainRecipe:
    return with_pretrain(recipe, optim=recipe.pretrain.optim.model_copy(update=changes))


@pytest.mark.parametrize("interrupted_after", [1, 3, 9])
@pytest.mark.parametrize("objective", [FeaturesObjective(), PixelsObjective(kind="pixels")], ids=lambda o: o.kind)
def test_resumed_run_equals_the_unbroken_one_bit_for_bit(
    recipe: PretrainRecipe, clips: Any, tmp_path: Path, objective: Any, interrupted_after: int
) -> None:
    recipe = with_pretrain(recipe, objective=objective)
    unbroken, losses = train(recipe, clips, save=(interrupted_after, tmp_path))
    resumed, later_losses = train(recipe, clips, first=interrupted_after, resume=tmp_path)
    assert later_losses == {step: loss for step, loss in losses.items() if step > interrupted_after}
    there, here = tensors(unbroken), tensors(resumed)
    assert there.keys() == here.keys()
    assert [name for name in there if not torch.equal(there[name], here[name])] == []


def test_a_checkpoint_of_the_last_step_has_nothing_left_to_do(
    recipe: PretrainRecipe, clips: Any, tmp_path: Path
) -> None:
    done, _ = train(recipe, clips, save=(10, tmp_path))
    again, losses = train(recipe, clips, first=10, resume=tmp_path)
    assert losses == {}
    assert torch.equal(done.model.encoder.norm.weight, again.model.encoder.norm.weight)


@pytest.mark.parametrize("micro_batch", [3, 8])
def test_micro_batch_does_not_change_the_losses(recipe: PretrainRecipe, clips: Any, micro_batch: int) -> None:
    _, one_group_at_a_time = train(recipe, clips)
    _, losses = train(recipe, clips, micro_batch=micro_batch)
    assert losses == pytest.approx(one_group_at_a_time, rel=1e-4)


@pytest.mark.parametrize("objective", [FeaturesObjective(), PixelsObjective(kind="pixels")], ids=lambda o: o.kind)
def test_a_short_pretraining_lowers_the_loss(recipe: PretrainRecipe, clips: Any, objective: Any) -> None:
    recipe = with_optim(with_pretrain(recipe, objective=objective), iterations=60, warmup=5, ema=0.99, lr=5e-3)
    _, losses = train(recipe, clips)
    first, last = (np.mean([losses[s] for s in steps]) for steps in (range(1, 6), range(56, 61)))
    assert last < 0.95 * first


def test_the_seed_decides_weights_and_masks(recipe: PretrainRecipe, clips: Any) -> None:
    recipe = with_optim(recipe, iterations=3)
    _, losses = train(recipe, clips)
    _, same = train(recipe, clips)
    _, other = train(recipe.model_copy(update={"seed": 8}), clips)
    assert losses == same
    assert all(losses[step] != other[step] for step in losses)
    state, other_state = initial_state(recipe), initial_state(recipe.model_copy(update={"seed": 8}))
    name = "blocks.0.attn.qkv.weight"
    assert not torch.equal(state.model.encoder.state_dict()[name], other_state.model.encoder.state_dict()[name])


def test_rows_of_another_place_are_refused(recipe: PretrainRecipe, clips: Any) -> None:
    with pytest.raises(RuntimeError, match="step 1 expects positions range"):
        pretrain(recipe, World(), clips().batches(8, 16, 8), order="order")


def test_a_video_without_readable_replacement_stops_training(recipe: PretrainRecipe, clips: Any) -> None:
    with pytest.raises(UserError, match=r"5\.mp4.*truncated"):
        pretrain(recipe, World(), clips(bad=(5,)).batches(0, 80, 8), order="order")


def test_more_workers_than_rows_are_refused(recipe: PretrainRecipe) -> None:
    with pytest.raises(UserError, match=r"8 cannot be shared by 9 workers: set execution\.workers to 8 or fewer"):
        pretrain(recipe, World(rank=0, size=9), [], order="order")


def test_workers_that_cannot_make_the_same_passes_are_refused_and_those_that_can_named(recipe: PretrainRecipe) -> None:
    recipe = with_pretrain(recipe, mask_group_size=1)
    with pytest.raises(UserError, match=r"set execution\.workers to one of 1, 2, 4, 8, or execution\.parallel to ddp"):
        pretrain(recipe, World(rank=0, size=3), [], order="order", parallel="fsdp")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_blocks_computed_again_give_the_same_bits(recipe: PretrainRecipe, clips: Any, precision: str) -> None:
    recipe = with_optim(with_pretrain(recipe, precision=precision), iterations=4)
    (plain, losses), (again, same_losses) = (train(recipe, clips, activation_checkpointing=on) for on in (False, True))
    assert same_losses == losses
    kept, computed = tensors(plain), tensors(again)  # with AdamW's moments, which are those of all gradients
    assert kept.keys() == computed.keys()
    assert [name for name in kept if not torch.equal(kept[name], computed[name])] == []


def test_a_checkpointed_block_keeps_its_input_alone(recipe: PretrainRecipe) -> None:
    def kept(again: bool) -> set[tuple[int, ...]]:
        model = initial_state(recipe).model
        if again:
            recompute_blocks(model)
        shapes: list[tuple[int, ...]] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: (shapes.append(tuple(x.shape)), x)[1], lambda x: x):
            block = model.encoder.blocks[0]
            block(torch.randn(2, 5, 24, requires_grad=True)).sum()
        return set(shapes)

    inside = (2, 5, 48)  # of the MLP
    assert inside in kept(again=False)
    assert inside not in kept(again=True)
