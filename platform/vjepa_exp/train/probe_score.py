"""The score of trained probes on held-out videos, every one of them exactly once.

Legend: X clips (B videos of R spatial views), C classes.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import nn

from vjepa_exp.evals.accuracy import Accuracy
from vjepa_exp.evals.coverage import Coverage, Unreadable
from vjepa_exp.evals.views import average_views
from vjepa_exp.spec.errors import UserError
from vjepa_exp.train.features import Features
from vjepa_exp.train.world import World


class HeldOut(NamedTuple):
    """Features of this worker's test videos, a list where they are kept, and how many videos there are in all."""

    features: Iterable[Features]
    num_videos: int


class ProbeOutcome(NamedTuple):
    """Counts over all workers."""

    accuracy: Accuracy
    coverage: Coverage

    @property
    def scores(self) -> dict[str, float]:
        """`top1` (per cent) and `test_loss`."""
        return {"top1": self.accuracy.top1, "test_loss": self.accuracy.loss}


@torch.no_grad()
def score_probes(
    probes: Sequence[nn.Module],
    held_out: Iterable[Features],
    num_videos: int,
    num_classes: int,
    world: World,
    cast: Callable[[], AbstractContextManager[Any]],
) -> list[ProbeOutcome]:
    """Accuracy of each probe over the videos of all workers, softmax averaged over spatial views.

    Raises:
        UserError: no video can be read.
        RuntimeError: a video is missing or came twice.
    """
    accuracies = [Accuracy(num_classes, world.device) for _ in probes]
    positions = [torch.empty(0, dtype=torch.int64, device=world.device)]
    unreadable: list[Unreadable] = []
    for part in held_out:
        if len(part.position):
            for probe, accuracy in zip(probes, accuracies, strict=True):
                with cast():
                    logits_XC = probe(part.tokens.flatten(0, 1))
                logits_BRC = logits_XC.unflatten(0, part.tokens.shape[:2])
                accuracy.update(average_views(logits_BRC), part.label)
        positions.append(part.position)
        unreadable += part.unreadable
    for accuracy in accuracies:
        accuracy.counts_C2, accuracy.nll = world.sum(accuracy.counts_C2), world.sum(accuracy.nll)
    seen = world.gather_rows(torch.cat(positions))
    missed = [one for worker in world.gather(unreadable) for one in worker]
    if len(seen) + len(missed) != num_videos or len(seen.unique()) != len(seen):
        raise RuntimeError(
            f"{len(seen)} videos ({len(seen.unique())} different) and {len(missed)} unreadable of {num_videos}"
        )
    if len(seen) == 0:
        raise UserError("no test video can be read" if num_videos else "the test split has no videos")
    coverage = Coverage(num_videos, tuple(sorted(missed)))
    return [ProbeOutcome(accuracy, coverage) for accuracy in accuracies]
