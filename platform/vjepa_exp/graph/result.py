"""What a run of a plan leaves for the report."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from vjepa_exp.graph.plan import Plan
from vjepa_exp.graph.stage import Stage
from vjepa_exp.graph.store import Record

CHOSEN = "chosen_"
"""Begins the names of a record's metrics that are settings chosen by a sweep."""
DONE, NOT_BEGUN = ("done", "reused"), "not begun"
"""States of stages, see `StudyResult.state`."""


@dataclass(frozen=True)
class StudyResult:
    """Records and failures of a plan's stages, by fingerprint. A stage in none of these was not begun."""

    plan: Plan
    records: dict[str, Record] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    """Fingerprint -> one line on what went wrong."""
    reused: frozenset[str] = frozenset()
    """Fingerprints of stages that were in the store before the run."""
    running: dict[str, str] = field(default_factory=dict)
    """Fingerprint -> where a stage stands that a run works on at this moment: 'step 40 of 120'."""
    stopped: dict[str, str] = field(default_factory=dict)
    """The same of stages that nobody works on and that the next run continues."""

    @property
    def complete(self) -> bool:
        """Whether every stage of the plan is done."""
        return all(stage.fingerprint in self.records for stage in self.plan.stages)

    def state(self, stage: Stage) -> str:
        """A stage in a few words: 'done', 'reused', 'failed', 'running, step 40 of 120', 'not begun', ..."""
        key = stage.fingerprint
        if key in self.records:
            return "reused" if key in self.reused else "done"
        if key in self.failed:
            return "failed"
        if key in self.running:
            return f"running, {self.running[key]}"
        return f"stopped at {self.stopped[key]}" if key in self.stopped else NOT_BEGUN

    def summary(self) -> str:
        """'3 of 8 stages are done, 1 is running, 1 failed, 3 are not begun', and '' once all are done."""
        if self.complete:
            return ""
        counts = Counter(self.state(stage).partition(",")[0].partition(" at ")[0] for stage in self.plan.stages)
        parts = [f"{sum(counts[state] for state in DONE)} of {len(self.plan.stages)} stages are done"]
        for state in ("running", "stopped", "failed", NOT_BEGUN):
            verb = "" if state == "failed" else "is " if counts[state] == 1 else "are "
            parts += [f"{counts[state]} {verb}{state}"] if counts[state] else []
        return ", ".join(parts)
