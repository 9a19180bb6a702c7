"""What a run of a plan leaves for the report."""

from __future__ import annotations

from dataclasses import dataclass, field

from vjepa_exp.graph.plan import Plan
from vjepa_exp.graph.store import Record

CHOSEN = "chosen_"
"""Begins the names of a record's metrics that are settings chosen by a sweep."""


@dataclass(frozen=True)
class StudyResult:
    """Records and failures of a plan's stages, by fingerprint. A stage in neither was not reached."""

    plan: Plan
    records: dict[str, Record] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    """Fingerprint -> one line on what went wrong."""
    reused: frozenset[str] = frozenset()
    """Fingerprints of stages that were in the store before the run."""

    @property
    def complete(self) -> bool:
        """Whether every stage of the plan is done."""
        return all(stage.fingerprint in self.records for stage in self.plan.stages)
