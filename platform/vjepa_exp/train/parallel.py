"""What is done to the trained networks from outside, so that they know nothing of it (design section 5).

Nothing here changes a number beyond the order of sums: blocks whose activations are computed again for the backward
pass, and networks whose parameters lie in slices on all workers (FSDP2).

A sharded network holds a slice of every parameter as a DTensor and fetches a block's other slices when it comes to it.
The slices travel in fp32 and autocast stays in charge of precision: FSDP's own policy would round norms and mask
tokens too, which autocast leaves alone, and the numbers would differ from those of DDP.
"""

from __future__ import annotations

from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map_only
from torch.utils.checkpoint import checkpoint

from vjepa_exp.train.world import World
from vjepa_models.layers import Block

T = TypeVar("T")
TABLE = "pos_embed"


def recompute_blocks(network: nn.Module) -> None:
    """Keep of every block its input alone and compute it again in the backward pass; bit for bit the same numbers."""
    for block in _blocks(network):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)  # type: ignore[method-assign]


def shard(network: nn.Module, world: World) -> None:
    """Leave a slice of each parameter on each worker, in place, and fetch the others block by block.

    Called on every worker, before the optimiser is made. Position tables stay whole: they have no gradient and one
    row, which cannot be cut. Outside of passes the registered parameters are the slices, also where no backward pass
    follows, as in the target encoder.
    """
    if world.device.type == "cuda":
        torch.cuda.set_device(world.device)
    mesh = init_device_mesh(world.device.type, (world.size,))
    whole = {parameter for name, parameter in network.named_parameters() if name.endswith(TABLE)}
    for module in (*_blocks(network), network):
        sharded = fully_shard(module, mesh=mesh, reshard_after_forward=True, ignored_params=whole)
        sharded.set_force_sum_reduction_for_comms(world.device.type == "cpu")  # Gloo does not average


def whole_tensors(state: T, *, keep: bool) -> T:
    """A tree of values in which what is sharded is one tensor on the CPU, or None where a worker does not keep it.

    Called on every worker.
    """

    def gather(slices: DTensor) -> Tensor | None:
        tensor = slices.full_tensor()
        return tensor.cpu() if keep else None

    return tree_map_only(DTensor, gather, state)


def slice_of(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Of a whole tensor what this worker holds of a parameter of its shape: a slice where it is sharded, else all."""
    if not isinstance(parameter, DTensor) or tensor.shape != parameter.shape:
        return tensor
    # Every worker has read the whole, so nothing is sent. Without the copy the slice would keep the whole alive.
    return distribute_tensor(tensor, parameter.device_mesh, parameter.placements, src_data_rank=None).clone()


def local(tensor: Tensor) -> Tensor:
    """What this worker holds of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _blocks(network: nn.Module) -> list[Block]:
    return [module for module in network.modules() if isinstance(module, Block)]
