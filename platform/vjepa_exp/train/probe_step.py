"""One step of a probe: cross-entropy on tokens of a frozen encoder, AdamW with cosines (method facts section 8).

Legend: B videos of this worker, N tokens of all segments, D width.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import astuple, dataclass, field
from math import cos, pi
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW

from vjepa_exp.evals.coverage import Unreadable
from vjepa_exp.spec.evaluate import ProbeOptimSpec
from vjepa_exp.train.optim import build_optimizer, clip_gradients, set_schedule
from vjepa_exp.train.world import World

BETAS, EPS = (0.9, 0.999), 1e-8


class TokenBatch(NamedTuple):
    """This worker's `tokens` [B, N, D] and `label` [B] of a global batch of `num_rows` videos."""

    tokens: Tensor
    label: Tensor
    num_rows: int


class ProbeMetrics(NamedTuple):
    """What a step says about itself; on many workers `loss` and `train_top1` count this worker's rows `size`-fold."""

    loss: Tensor
    train_top1: Tensor
    grad_norm: Tensor
    lr: float
    weight_decay: float

    def to_floats(self) -> dict[str, float]:
        """All values by name, with one host synchronisation."""
        loss, top1, norm = torch.stack([self.loss, self.train_top1, self.grad_norm]).tolist()
        rates = {"lr": self.lr, "weight_decay": self.weight_decay}
        return {"loss": loss, "train_top1": top1, "grad_norm": norm, **rates}


@dataclass
class ProbeState:
    """All that training changes.

    Attributes:
        step: the last one done.
        probe: its weights.
        optimizer: of them.
        world: this worker among its equals.
        unreadable: training videos that this worker could not read so far; probes on the same batches share it.
        curve: `step`, `epoch`, `top1` and `test_loss` of every test so far.
        readable: which videos' features the batches are made of, where they are kept.
    """

    step: int
    probe: nn.Module
    optimizer: AdamW
    world: World = field(default_factory=World)
    unreadable: set[Unreadable] = field(default_factory=set)
    curve: list[dict[str, float]] = field(default_factory=list)
    readable: str = ""

    @classmethod
    def of(cls, probe: nn.Module, world: World, unreadable: set[Unreadable], readable: str = "") -> Self:
        """The state before step 1."""
        return cls(0, probe, build_optimizer([probe], BETAS, EPS), world, unreadable, readable=readable)

    def state_dict(self, *, keep: bool = True) -> dict[str, Any]:
        """Everything needed to continue, bit for bit, on any number of workers; called on every one of them."""
        unreadable = set[Unreadable]().union(*self.world.gather(self.unreadable))
        return {
            "step": self.step,
            "probe": self.probe.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "unreadable": [list(astuple(one)) for one in sorted(unreadable)],
            "curve": self.curve,
            "readable": self.readable,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`; raises RuntimeError naming keys that do not fit, ValueError of other videos."""
        if state["readable"] != self.readable:
            raise ValueError(
                f"{state['readable']} could be read when it was written, {self.readable} now: "
                "delete the folder to begin anew"
            )
        self.probe.load_state_dict(state["probe"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.unreadable.update(Unreadable(*one) for one in state["unreadable"])
        self.curve, self.step = list(state["curve"]), state["step"]


def make_probe_step(
    optim: ProbeOptimSpec,
    steps_per_epoch: int,
    world: World,
    *,
    wrapped: nn.Module,
    autocast: Callable[[], AbstractContextManager[Any]],
) -> Callable[[ProbeState, TokenBatch], ProbeMetrics]:
    """The function that trains on one batch, in place and without waiting for the device.

    The loss is the mean over the rows of the global batch; a row that could not be read adds nothing to it.
    """

    def step(state: ProbeState, batch: TokenBatch) -> ProbeMetrics:
        lr, weight_decay = probe_schedule(optim, state.step + 1, steps_per_epoch)
        set_schedule(state.optimizer, lr, weight_decay)
        scale = world.size / batch.num_rows  # DDP averages over the workers
        with autocast():
            logits_BC = wrapped(batch.tokens)
        loss = scale * F.cross_entropy(logits_BC.float(), batch.label, reduction="sum")
        loss.backward()
        norm = clip_gradients(state.probe, optim.clip_grad)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        state.step += 1
        right = (logits_BC.detach().argmax(dim=1) == batch.label).float().sum()
        return ProbeMetrics(loss.detach(), 100 * scale * right, norm, lr, weight_decay)

    return step


def probe_schedule(optim: ProbeOptimSpec, step: int, steps_per_epoch: int) -> tuple[float, float]:
    """Learning rate and weight decay at a step, counted from 1: warm-up from 0, then cosines to the last step."""
    last, warmup = optim.epochs * steps_per_epoch, optim.warmup_epochs * steps_per_epoch
    weight_decay = _cosine(optim.weight_decay, optim.final_weight_decay, step / last)
    if step < warmup:
        return optim.lr * step / warmup, weight_decay
    return _cosine(optim.lr, optim.final_lr, (step - warmup) / max(1, last - warmup)), weight_decay


def _cosine(start: float, final: float, progress: float) -> float:
    return final + (start - final) * 0.5 * (1 + cos(pi * min(1.0, progress)))
