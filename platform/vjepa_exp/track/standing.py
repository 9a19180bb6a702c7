"""How a study stands: read from its stages' folders, whether a run works in them at this moment or not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vjepa_exp.graph.plan import Plan
from vjepa_exp.graph.result import StudyResult
from vjepa_exp.graph.store import Store
from vjepa_exp.track.journal import JOURNAL, read_journal
from vjepa_exp.track.progress import PROGRESS, Progress

FAILURE = "failure.log"
"""Written into a stage's folder when it fails."""


def stored_result(plan: Plan, store: Store) -> StudyResult:
    """What the store already holds of a plan.

    Raises:
        UserError: a record is damaged.
    """
    found = {stage.fingerprint: store.record(stage) for stage in plan.stages}
    records = {fingerprint: record for fingerprint, record in found.items() if record is not None}
    return StudyResult(plan, records, reused=frozenset(records))


def standing(plan: Plan, store: Store) -> StudyResult:
    """The same, with what runs, what was stopped and what failed. A run that works is not disturbed.

    What a stage's folder says is news where the run wrote it that holds the store now; else it is of an earlier run.

    Raises:
        UserError: a record is damaged.
    """
    since = store.held_since()
    running, stopped, failed = dict[str, str](), dict[str, str](), dict[str, str]()
    for stage in plan.stages:
        folder, key = store.path(stage), stage.fingerprint
        progress, at, failed_at = Progress.read(folder), _changed(folder / PROGRESS), _changed(folder / FAILURE)
        if progress is not None and since is not None and at >= since:
            running[key] = str(progress)
        elif failed_at > max(at, since or 0.0):
            failed[key] = _reason(folder / FAILURE)
        elif progress is not None and progress.total:
            stopped[key] = str(progress)
        elif rows := read_journal(folder / JOURNAL):
            stopped[key] = f"step {rows[-1]['step']:.0f}"
    # Records are read last: a stage that ended meanwhile is done, whatever its folder said before.
    result = stored_result(plan, store)
    unfinished = [
        {key: text for key, text in part.items() if key not in result.records} for part in (running, stopped, failed)
    ]
    return replace(result, running=unfinished[0], stopped=unfinished[1], failed=unfinished[2], reused=frozenset())


def _changed(file: Path) -> float:
    """When a file was written, seconds since 1970; 0 if it is not there."""
    try:
        return file.stat().st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return 0.0


def _reason(log: Path) -> str:
    """What a traceback comes to, and where it is."""
    lines = log.read_text(encoding="utf-8").strip().splitlines()
    return f"{lines[-1].strip() if lines else 'no reason was written'} (log: {log})"
