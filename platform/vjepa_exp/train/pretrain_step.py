"""One V-JEPA pre-training step, start to end (paper section 3; method facts sections 3, 5 and 6).

A batch consists of mask groups whose rows follow each other; the samples of a group have context and target lists of
one length per mask configuration. The loss of a step is the mean over mask configurations and over all rows of the
batch, however the batch is cut into micro-batches or spread over devices.

Not here: where clips come from, precision (`autocast`), distribution (a wrapped model), logging, checkpoints on disk.

Legend: B batch, C T H W a clip, N tokens, K context, M target tokens, D width of a target, I mask configurations.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW

from vjepa_exp.spec.pretrain import FeaturesObjective, Objective, OptimSpec
from vjepa_exp.train.mask_groups import Cut, MaskGroup, MaskPair, split_rows
from vjepa_exp.train.optim import build_optimizer, clip_gradients, ema_update, set_schedule
from vjepa_exp.train.parallel import slice_of, whole_tensors
from vjepa_exp.train.schedules import schedule_at
from vjepa_models.encoder import EncoderConfig, VideoEncoder
from vjepa_models.layers import gather_tokens
from vjepa_models.objectives import (
    feature_targets,
    pixel_loss,
    pixel_targets,
    prediction_loss,
    prediction_std,
    variance_penalty,
)
from vjepa_models.predictor import Predictor, PredictorConfig


class StepMetrics(NamedTuple):
    """What a step says about itself. Tensors stay on the device; on many workers they are this worker's share."""

    loss: Tensor
    mask_losses: Tensor
    prediction_std: Tensor
    variance_penalty: Tensor
    encoder_grad_norm: Tensor
    predictor_grad_norm: Tensor
    context_ratio: float
    target_ratio: float
    lr: float
    weight_decay: float
    momentum: float

    def to_floats(self) -> dict[str, float]:
        """All values by name, with one host synchronisation."""
        tensors = {
            name: value for name, value in self._asdict().items() if isinstance(value, Tensor) and value.ndim == 0
        }
        tensors |= {f"loss_mask{i}": loss for i, loss in enumerate(self.mask_losses.unbind())}
        numbers = {name: value for name, value in self._asdict().items() if isinstance(value, float)}
        values = torch.stack([value.float() for value in tensors.values()]).tolist()
        return dict(zip(tensors, values, strict=True)) | numbers


class PretrainModel(nn.Module):
    """The trained networks; one forward call computes the loss of a micro-batch, which is what DDP wraps."""

    def __init__(self, encoder: VideoEncoder, predictor: Predictor, objective: Objective) -> None:
        super().__init__()
        self.encoder = encoder
        self.predictor = predictor
        self.objective = objective

    def forward(self, clips_BCTHW: Tensor, targets_BND: Tensor, groups: Sequence[MaskGroup]) -> tuple[Tensor, Tensor]:
        """Losses per mask configuration [I], and (standard deviation, variance penalty) of the predictions [2]."""
        losses_I = clips_BCTHW.new_zeros(len(groups[0]), dtype=torch.float32)
        monitors = losses_I.new_zeros(2)
        start = 0
        for group in groups:
            rows = slice(start, start + len(group[0].context))
            share = (rows.stop - rows.start) / len(clips_BCTHW)
            predictions = [self.predict(clips_BCTHW[rows], pair, i) for i, pair in enumerate(group)]
            losses = [
                self._loss(predicted_BMD, gather_tokens(targets_BND[rows], pair.target))
                for predicted_BMD, pair in zip(predictions, group, strict=True)
            ]
            losses_I = losses_I + share * torch.stack(losses)
            monitors = monitors + share * _collapse_monitors(predictions)
            start = rows.stop
        return losses_I, monitors

    def predict(self, clips_BCTHW: Tensor, pair: MaskPair, mask_id: int) -> Tensor:
        """Predictions of the target tokens from the context tokens, [B, M, D]."""
        context_BKD = self.encoder(clips_BCTHW, pair.context)
        return self.predictor(context_BKD, pair.context, pair.target, mask_id)

    def _loss(self, predictions_BMD: Tensor, targets_BMD: Tensor) -> Tensor:
        if isinstance(self.objective, FeaturesObjective):
            return prediction_loss(predictions_BMD.float(), targets_BMD, self.objective.exponent)
        return pixel_loss(predictions_BMD.float(), targets_BMD)


@dataclass
class PretrainState:
    """All that a step changes. `target_encoder` is None where pixels are predicted."""

    step: int
    model: PretrainModel
    target_encoder: VideoEncoder | None
    optimizer: AdamW

    @classmethod
    def create(
        cls,
        encoder: EncoderConfig,
        predictor: PredictorConfig,
        objective: Objective,
        optim: OptimSpec,
        seed: int,
        device: torch.device | str = "cpu",
        prepare: Callable[[nn.Module], object] = lambda network: None,
    ) -> Self:
        """The state before step 1, a pure function of the seed; `prepare` may shard the networks in place."""
        model = PretrainModel(VideoEncoder(encoder, seed, device), Predictor(predictor, seed, device), objective)
        target = deepcopy(model.encoder) if isinstance(objective, FeaturesObjective) else None
        for network in (model, target):
            if network is not None:
                prepare(network)
        return cls.of(model, target, optim)

    @classmethod
    def of(cls, model: PretrainModel, target_encoder: VideoEncoder | None, optim: OptimSpec) -> Self:
        """The state before step 1 of given networks."""
        if target_encoder is not None:
            target_encoder.requires_grad_(False)
        optimizer = build_optimizer([model.encoder, model.predictor], optim.betas, optim.eps)
        return cls(0, model, target_encoder, optimizer)

    def state_dict(self, *, keep: bool = True) -> dict[str, Any]:
        """Everything needed to continue, bit for bit, the same for any number of workers.

        Call it on every worker: those that share sharded networks gather them. One that does not `keep` the result
        has None in it where a tensor was sharded.
        """
        target = self.target_encoder
        state = {
            "step": self.step,
            "encoder": self.model.encoder.state_dict(),
            "predictor": self.model.predictor.state_dict(),
            "target_encoder": None if target is None else target.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        return whole_tensors(state, keep=keep)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`; raises RuntimeError naming keys that do not fit."""
        _load(self.model.encoder, state["encoder"])
        _load(self.model.predictor, state["predictor"])
        if self.target_encoder is not None:
            _load(self.target_encoder, state["target_encoder"])
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        held = dict(enumerate(parameters))
        moments = {
            i: {name: slice_of(value, held.get(i, value)) for name, value in values.items()}
            for i, values in state["optimizer"]["state"].items()
        }
        self.optimizer.load_state_dict({**state["optimizer"], "state": moments})
        self.step = state["step"]


def _load(network: nn.Module, state: dict[str, Tensor]) -> None:
    held = network.state_dict()
    network.load_state_dict({name: slice_of(value, held.get(name, value)) for name, value in state.items()})


PretrainStep = Callable[[PretrainState, Tensor, Sequence[MaskGroup]], StepMetrics]


def make_pretrain_step(
    optim: OptimSpec,
    *,
    wrapped: nn.Module | None = None,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    cut: Cut | None = None,
    rows_per_worker: float | None = None,
) -> PretrainStep:
    """The function that trains on one batch: (state, clips [B, C, T, H, W], mask groups) -> metrics.

    It changes the state in place and never waits for the device.

    Args:
        optim: schedules and clipping.
        wrapped: the state's model inside DDP or a compiled form of it; the model itself where None.
        autocast: context of all forward passes and the loss.
        cut: the forward and backward passes in which the rows go, one for all where None; does not change the result.
        rows_per_worker: rows that weigh as one worker's in the mean over the workers, those that come where None; the
            mean is that of the global batch where all workers state the same.
    """

    def step(state: PretrainState, clips_BCTHW: Tensor, groups: Sequence[MaskGroup]) -> StepMetrics:
        number = state.step + 1
        lr, weight_decay, momentum = schedule_at(optim, number)
        set_schedule(state.optimizer, lr, weight_decay)

        model = state.model if wrapped is None else wrapped
        num_rows = len(clips_BCTHW)
        weight = num_rows / (rows_per_worker or num_rows)
        losses_I: Tensor = torch.zeros((), device=clips_BCTHW.device)
        monitors: Tensor = torch.zeros((), device=clips_BCTHW.device)
        for rows, part in split_rows(groups, cut or [[len(group[0].context) for group in groups]]):
            share = weight * (rows.stop - rows.start) / num_rows
            with _no_sync(model, last=rows.stop == num_rows):
                with autocast():
                    targets_BND = make_targets(state, clips_BCTHW[rows])
                    part_losses_I, part_monitors = model(clips_BCTHW[rows], targets_BND, part)
                (share * part_losses_I.mean()).backward()
            losses_I = losses_I + share * part_losses_I.detach()
            monitors = monitors + share * part_monitors.detach()

        clip = optim.clip_grad if number > optim.clip_grad_after else None
        encoder_norm = clip_gradients(state.model.encoder, clip)
        predictor_norm = clip_gradients(state.model.predictor, clip)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        if state.target_encoder is not None:
            ema_update(state.target_encoder, state.model.encoder, momentum)
        state.step = number
        return StepMetrics(
            loss=losses_I.mean(),
            mask_losses=losses_I,
            prediction_std=monitors[0],
            variance_penalty=monitors[1],
            encoder_grad_norm=encoder_norm,
            predictor_grad_norm=predictor_norm,
            context_ratio=weight * _kept_ratio(state, [pair.context for group in groups for pair in group]),
            target_ratio=weight * _kept_ratio(state, [pair.target for group in groups for pair in group]),
            lr=lr,
            weight_decay=weight_decay,
            momentum=momentum,
        )

    return step


@torch.no_grad()
def make_targets(state: PretrainState, clips_BCTHW: Tensor) -> Tensor:
    """What the tokens of these clips are to be predicted as, [B, N, D]: normalised target features, or pixels."""
    if state.target_encoder is not None:
        return feature_targets(state.target_encoder(clips_BCTHW))
    config = state.model.encoder.config
    return pixel_targets(clips_BCTHW, config.tubelet_size, config.patch_size)


def _collapse_monitors(predictions: Sequence[Tensor]) -> Tensor:
    """Mean standard deviation over tokens and variance penalty of the predictions of all masks, [2]."""
    with torch.no_grad():
        std_BD = torch.stack([prediction_std(p_BMD.detach().float()) for p_BMD in predictions]).mean(dim=0)
        return torch.stack([std_BD.mean(), variance_penalty(std_BD)])


def _no_sync(model: nn.Module, last: bool) -> AbstractContextManager[Any]:
    """Gradients are averaged over the workers once, with the last micro-batch."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(last)
    return model.no_sync() if isinstance(model, DistributedDataParallel) and not last else nullcontext()


def _kept_ratio(state: PretrainState, indices: Sequence[Tensor]) -> float:
    """Mean share of the tokens in these index lists, each row counting once per mask configuration."""
    rows = sum(len(index) for index in indices)
    return sum(index.numel() for index in indices) / (rows * state.model.encoder.config.num_tokens)
