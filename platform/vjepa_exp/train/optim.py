"""AdamW with the released parameter groups, gradient norms, EMA of the target encoder. No host synchronisation."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import AdamW

from vjepa_exp.train.parallel import local


def build_optimizer(modules: Iterable[nn.Module], betas: tuple[float, float], eps: float) -> AdamW:
    """AdamW over the modules: first one decayed group each, then one each of what is excluded from weight decay.

    For (encoder, predictor) these are the four groups of the released checkpoints, in their order. Excluded are
    biases and one-dimensional parameters (LayerNorm); position tables stand in the decayed groups but never receive
    a gradient. `set_schedule` fills in the rates before each step.
    """
    modules = list(modules)
    groups = [_group(module, decayed) for decayed in (True, False) for module in modules]
    return AdamW(groups, lr=0.0, betas=betas, eps=eps, fused=True)


def set_schedule(optimizer: AdamW, lr: float, weight_decay: float) -> None:
    """Set the learning rate of all groups and the weight decay of the decayed ones."""
    for group in optimizer.param_groups:
        group["lr"] = lr
        if group["decayed"]:
            group["weight_decay"] = weight_decay


def clip_gradients(module: nn.Module, max_norm: float | None) -> Tensor:
    """Scale the gradients of a module to `max_norm` where they exceed it; returns their norm before that."""
    parameters = [p for p in module.parameters() if p.grad is not None]
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if isinstance(norm, DTensor):
        norm = norm.full_tensor()
    if max_norm is not None:
        nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    return norm


@torch.no_grad()
def ema_update(target: nn.Module, source: nn.Module, momentum: float) -> None:
    """target = momentum * target + (1 - momentum) * source, over all parameters, the constant table included."""
    torch._foreach_lerp_([local(p) for p in target.parameters()], [local(p) for p in source.parameters()], 1 - momentum)


def _group(module: nn.Module, decayed: bool) -> dict[str, object]:
    parameters = [p for name, p in module.named_parameters() if decayed != ("bias" in name or p.ndim == 1)]
    return {"params": parameters, "weight_decay": 0.0, "decayed": decayed}
