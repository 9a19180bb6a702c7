"""Top-1 accuracy from counts that add up exactly over batches and workers.

Legend: B videos, C classes.
"""

import torch
from torch import Tensor


class Accuracy:
    """Counts of videos, of right answers per class, and the summed negative log-likelihood, on one device."""

    def __init__(self, num_classes: int, device: torch.device | str = "cpu") -> None:
        self.counts_C2 = torch.zeros(num_classes, 2, dtype=torch.int64, device=device)
        self.nll = torch.zeros((), dtype=torch.float64, device=device)

    def update(self, probabilities_BC: Tensor, labels_B: Tensor) -> None:
        """Add some videos; nothing is copied to the host."""
        right_B = (probabilities_BC.argmax(dim=1) == labels_B).long()
        self.counts_C2.index_add_(0, labels_B, torch.stack([torch.ones_like(right_B), right_B], dim=1))
        picked_B = probabilities_BC.gather(1, labels_B[:, None]).double()
        self.nll -= picked_B.clamp_min(torch.finfo(torch.float32).tiny).log().sum()

    @property
    def num_videos(self) -> int:
        """Videos seen."""
        return int(self.counts_C2[:, 0].sum())

    @property
    def top1(self) -> float:
        """Percentage of the videos whose most probable class is right."""
        return 100 * int(self.counts_C2[:, 1].sum()) / self.num_videos

    @property
    def chance(self) -> float:
        """What always naming the commonest class of these videos would score, in per cent."""
        return 100 * int(self.counts_C2[:, 0].max()) / self.num_videos

    @property
    def loss(self) -> float:
        """Mean negative log-likelihood of the right class."""
        return float(self.nll) / self.num_videos

    @property
    def top1_by_class(self) -> list[float | None]:
        """Percentage right of each class, None where it has no video."""
        return [100 * right / total if total else None for total, right in self.counts_C2.tolist()]
