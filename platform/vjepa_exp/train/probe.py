"""Frozen evaluation: train and test a probe on tokens of a frozen encoder (paper section 4, Table 9; method facts 8).

Where clips are not augmented and the features fit, the encoder sees every training clip once, and all epochs run on the
kept features. Test features never change: where they fit, they are kept too and give a score after every epoch. The
score of the last epoch is the result; nothing is selected on the test split.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import nn

from vjepa_exp.evals.accuracy import Accuracy
from vjepa_exp.evals.coverage import Coverage, Unreadable
from vjepa_exp.evals.views import average_views
from vjepa_exp.spec import evaluate
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.stages import ProbeRecipe
from vjepa_exp.train.features import Features
from vjepa_exp.train.loop import Hook, training_steps
from vjepa_exp.train.precision import autocast
from vjepa_exp.train.probe_data import Split, held_out_tokens, training_tokens
from vjepa_exp.train.probe_step import ProbeState, make_probe_step
from vjepa_exp.train.world import World
from vjepa_models.encoder import VideoEncoder
from vjepa_models.probes import AttentiveProbe, LinearProbe, build_probe


@dataclass(frozen=True)
class ProbeResult:
    """A trained probe and how it did.

    Attributes:
        metrics: of the test after the last step: `top1` (per cent), `test_loss`, `n` (videos covered), `chance` (per
            cent that always naming the commonest class scores).
        coverage: of the test split, where an unreadable video is never replaced.
        train_coverage: of the training split.
        curve: `step`, `epoch`, `top1` and `test_loss` of every test.
        top1_by_class: per cent, None for a class without test videos.
        probe: the weights.
    """

    metrics: dict[str, float]
    coverage: Coverage
    train_coverage: Coverage
    curve: tuple[dict[str, float], ...]
    top1_by_class: tuple[float | None, ...]
    probe: AttentiveProbe | LinearProbe


class ProbeOutcome(NamedTuple):
    """Counts over all workers."""

    accuracy: Accuracy
    coverage: Coverage

    @property
    def scores(self) -> dict[str, float]:
        """`top1` (per cent) and `test_loss`."""
        return {"top1": self.accuracy.top1, "test_loss": self.accuracy.loss}


def train_probe(
    recipe: ProbeRecipe,
    world: World,
    encoder: VideoEncoder,
    train: Split,
    test: Split,
    num_classes: int,
    *,
    micro_batch: int | None = None,
    hooks: Sequence[Hook[ProbeState]] = (),
) -> ProbeResult:
    """Train a probe and test it on every video of the test split exactly once.

    Args:
        recipe: decides the numbers.
        world: this worker among its equals.
        encoder: frozen.
        train: positions 0 .. `num_train_positions` of the training order. Where features are kept: in any batches, each
            position on one worker. Otherwise step s (from 1) takes positions [(s-1)B, sB), worker r the r-th slice.
        test: positions 0 .. `num_videos`, in any batches, each position on one worker.
        num_classes: classes of both splits.
        micro_batch: clips of one forward pass of the encoder.
        hooks: called after every step, on every worker.

    Raises:
        UserError: no readable video in a split, or a batch that does not divide among the workers.
        RuntimeError: the streams miss or repeat a video.
    """
    spec = recipe.probe
    encoder = encoder.to(world.device)
    tokens = training_tokens(recipe, encoder, train, world, micro_batch)
    held_out = held_out_tokens(recipe, encoder, test, world, micro_batch)
    probe = _initial_probe(recipe, encoder, num_classes).to(world.device)
    state = ProbeState.of(probe)
    cast = autocast(spec.precision, world.device)
    step_fn = make_probe_step(spec.optim, tokens.steps_per_epoch, world, wrapped=world.wrap(probe), autocast=cast)
    last_step = spec.optim.epochs * tokens.steps_per_epoch
    curve: list[dict[str, float]] = []
    for info in training_steps(state, tokens.batches, step_fn, until=last_step, clips=spec.optim.batch_size):
        epoch, rest = divmod(info.step, tokens.steps_per_epoch)
        if info.step == last_step or (rest == 0 and isinstance(held_out, list)):
            outcome = score_probe(probe, held_out, test.num_videos, num_classes, world, cast)
            curve.append({"step": info.step, "epoch": epoch, **outcome.scores})
            info = replace(info, evaluation={"epoch": epoch, **outcome.scores})
        for hook in hooks:
            hook(info)
    return ProbeResult(
        metrics={**outcome.scores, "n": outcome.accuracy.num_videos, "chance": outcome.accuracy.chance},
        coverage=outcome.coverage,
        train_coverage=tokens.coverage(world),
        curve=tuple(curve),
        top1_by_class=tuple(outcome.accuracy.top1_by_class),
        probe=probe,
    )


@torch.no_grad()
def score_probe(
    probe: nn.Module,
    held_out: Iterable[Features],
    num_videos: int,
    num_classes: int,
    world: World,
    cast: Callable[[], AbstractContextManager[Any]],
) -> ProbeOutcome:
    """Accuracy over the videos of all workers, softmax averaged over spatial views.

    Raises:
        UserError: no video can be read.
        RuntimeError: a video is missing or came twice.
    """
    accuracy = Accuracy(num_classes, world.device)
    positions = [torch.empty(0, dtype=torch.int64, device=world.device)]
    unreadable: list[Unreadable] = []
    for part in held_out:
        if len(part.position):
            with cast():
                logits_XC = probe(part.tokens.flatten(0, 1))
            logits_BRC = logits_XC.unflatten(0, part.tokens.shape[:2])
            accuracy.update(average_views(logits_BRC), part.label)
        positions.append(part.position)
        unreadable += part.unreadable
    accuracy.counts_C2, accuracy.nll = world.sum(accuracy.counts_C2), world.sum(accuracy.nll)
    seen = world.gather_rows(torch.cat(positions))
    missed = [one for worker in world.gather(unreadable) for one in worker]
    if len(seen) + len(missed) != num_videos or len(seen.unique()) != len(seen):
        raise RuntimeError(
            f"{len(seen)} videos ({len(seen.unique())} different) and {len(missed)} unreadable of {num_videos}"
        )
    if len(seen) == 0:
        raise UserError("no test video can be read" if num_videos else "the test split has no videos")
    return ProbeOutcome(accuracy, Coverage(num_videos, tuple(sorted(missed))))


def _initial_probe(recipe: ProbeRecipe, encoder: VideoEncoder, num_classes: int) -> AttentiveProbe | LinearProbe:
    spec, config = recipe.probe, encoder.config
    depth = spec.depth if isinstance(spec, evaluate.AttentiveProbe) else 1
    return build_probe(spec.kind, config.embed_dim, config.num_heads, num_classes, recipe.seed, depth)
