"""How much of a split a score covers: evaluation never replaces a sample, it counts what it could not read."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from vjepa_exp.spec.errors import UserError


@dataclass(frozen=True, order=True)
class Unreadable:
    """A video that could not be decoded."""

    path: str
    reason: str
    dataset: str = ""


@dataclass(frozen=True)
class Coverage:
    """`covered` of `total` videos were read; the others are listed."""

    total: int
    unreadable: tuple[Unreadable, ...] = ()

    @classmethod
    def of(cls, total: int, unreadable: Iterable[Unreadable]) -> Self:
        """Coverage with each video listed once, however often, for whatever reasons and on however many workers."""
        once = {(one.dataset, one.path): one for one in sorted(unreadable, reverse=True)}
        return cls(total, tuple(sorted(once.values())))

    @property
    def covered(self) -> int:
        """Videos that were read."""
        return self.total - len(self.unreadable)

    def by_reason(self) -> dict[str, dict[str, int]]:
        """Data set -> kind of reason (what stands before its colon) -> videos that were not read."""
        counts: dict[str, Counter[str]] = {}
        for one in self.unreadable:
            counts.setdefault(one.dataset, Counter())[one.reason.partition(":")[0]] += 1
        return {dataset: dict(sorted(kinds.items())) for dataset, kinds in sorted(counts.items())}

    def require(self, max_unreadable: float, what: str) -> None:
        """Refuse to go on with too little.

        Args:
            max_unreadable: share of the videos that may be missing.
            what: name of the split, for the message.

        Raises:
            UserError: there is no video, none can be read, or too many cannot.
        """
        if self.total == 0:
            raise UserError(f"{what} has no videos")
        if self.covered > 0 and len(self.unreadable) <= max_unreadable * self.total:
            return
        first = self.unreadable[0]
        raise UserError(
            f"{what}: {len(self.unreadable)} of {self.total} videos cannot be read "
            f"(execution.max_unreadable allows {max_unreadable:.0%}), first {first.path}: {first.reason}"
        )
