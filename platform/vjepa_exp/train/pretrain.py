"""Pretraining as a function: recipe and batches in, trained state out (paper section 3, Table 8)."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import nn

from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.execution import Parallel
from vjepa_exp.spec.pretrain import PretrainSpec
from vjepa_exp.spec.stages import PretrainRecipe
from vjepa_exp.train.batch import Batch, ClipBatch
from vjepa_exp.train.checkpoint import load_checkpoint
from vjepa_exp.train.loop import Hook, training_steps
from vjepa_exp.train.mask_groups import Cut, cut_rows, draw_masks
from vjepa_exp.train.networks import encoder_config, predictor_config
from vjepa_exp.train.parallel import recompute_blocks, shard
from vjepa_exp.train.precision import autocast
from vjepa_exp.train.pretrain_step import PretrainState, StepMetrics, make_pretrain_step
from vjepa_exp.train.world import World, as_it_is


def pretrain(
    recipe: PretrainRecipe,
    world: World,
    batches: Iterable[Batch],
    *,
    order: str,
    resume: Path | None = None,
    micro_batch: int | None = None,
    parallel: Parallel = "ddp",
    activation_checkpointing: bool = False,
    hooks: Sequence[Hook[PretrainState]] = (),
) -> PretrainState:
    """Pretrain an encoder, from the start or from a checkpoint. The result does not depend on where it was interrupted.

    Args:
        recipe: decides the numbers.
        world: this worker among its equals.
        batches: this worker's rows of the first step to train and the following ones. Step s (from 1) takes positions
            [(s-1)B, sB) of the global order, worker r the r-th slice of them.
        order: fingerprint of that order; a checkpoint of another order is refused.
        resume: checkpoint folder to continue from.
        micro_batch: clips of one forward pass; one mask group where None.
        parallel: how several workers hold the networks: each all of them (ddp) or a slice (fsdp).
        activation_checkpointing: whether the blocks' activations are computed again for the backward pass.
        hooks: called after every step, on every worker.

    Raises:
        UserError: the workers cannot share the batch, the checkpoint does not fit, or no video can be read.
        RuntimeError: the batches are not those of the order, or end too soon.
    """
    spec = recipe.pretrain
    rows = world.batch_rows(spec.optim.batch_size)
    sharded = parallel == "fsdp" and world.size > 1
    cut = _cut(spec, world, micro_batch or spec.mask_group_size, together=sharded)
    state = initial_state(recipe, world.device, partial(shard, world=world) if sharded else as_it_is)
    grid = state.model.encoder.config.grid
    if resume is not None:
        load_checkpoint(resume, state, recipe, order)
    if activation_checkpointing:
        recompute_blocks(state.model)
    step_fn = make_pretrain_step(
        spec.optim,
        wrapped=state.model if sharded else world.wrap(state.model),
        autocast=autocast(spec.precision, world.device),
        cut=cut,
        rows_per_worker=spec.optim.batch_size / world.size,
    )

    def train_step(state: PretrainState, batch: Batch) -> StepMetrics:
        _check_rows(batch, state.step, spec.optim.batch_size, rows)
        masks = draw_masks(spec, grid, recipe.seed, state.step + 1, rows, world.device)
        clips = ClipBatch.of(batch).on_device(world.device, spec.data.clip.num_frames, recipe.seed)
        return step_fn(state, clips, masks)

    for info in training_steps(state, batches, train_step, until=spec.optim.iterations, clips=spec.optim.batch_size):
        for hook in hooks:
            hook(info)
    return state


def initial_state(
    recipe: PretrainRecipe,
    device: torch.device | str = "cpu",
    prepare: Callable[[nn.Module], object] = as_it_is,
) -> PretrainState:
    """The state before step 1, a pure function of the recipe; `prepare` may shard the networks in place."""
    spec = recipe.pretrain
    encoder = encoder_config(recipe.model, spec.data.clip)
    predictor = predictor_config(recipe.model, encoder, spec.objective, len(spec.masks))
    return PretrainState.create(encoder, predictor, spec.objective, spec.optim, recipe.seed, device, prepare)


def _cut(spec: PretrainSpec, world: World, micro_batch: int, *, together: bool) -> Cut:
    """How this worker passes its rows; `together` where all must make the same number of passes.

    Raises:
        UserError: they cannot.
    """
    batch, group = spec.optim.batch_size, spec.mask_group_size
    shares = world.shares(batch)
    if not together:
        return cut_rows([shares[world.rank]], group, micro_batch)[0]
    cuts = cut_rows(shares, group, micro_batch)
    if len({tuple(map(len, cut)) for cut in cuts}) > 1:
        fit = ", ".join(str(workers) for workers in range(1, batch + 1) if batch % workers == 0)
        raise UserError(
            f"batch_size {batch} in mask groups of {group} cannot be cut into equal passes for {world.size} workers, "
            f"which execution.parallel fsdp needs: set execution.workers to one of {fit}, or execution.parallel to ddp"
        )
    return cuts[world.rank]


def _check_rows(batch: Batch, steps_done: int, batch_size: int, rows: range) -> None:
    """The stream must deliver exactly this worker's rows of this step: anything else would train on wrong masks."""
    expected = range(steps_done * batch_size + rows.start, steps_done * batch_size + rows.stop)
    if batch["position"].tolist() != list(expected):
        raise RuntimeError(f"step {steps_done + 1} expects positions {expected}, not {batch['position'].tolist()}")
    unreadable = batch["error"] != ""
    if unreadable.any():
        raise UserError(
            f"no replacement for {batch['path'][unreadable][0]} can be read: {batch['error'][unreadable][0]}"
        )
