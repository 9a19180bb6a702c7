"""The studies of a collection on one page, with links to their reports."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from vjepa_exp.graph.joint import JointPlan
from vjepa_exp.graph.result import StudyResult
from vjepa_exp.graph.store import write_atomically
from vjepa_exp.report.html import templates
from vjepa_exp.report.orderings import Verdict, orderings
from vjepa_exp.report.table import build_table


@dataclass(frozen=True)
class StudyLine:
    """One study: where its report is and how it stands."""

    title: str
    link: str
    profile: str
    done: int
    stages: int
    failed: int
    unavailable: int
    """Cells of its table that nothing can yield yet."""
    found: Counter[Verdict]
    """Pairs of rows that the paper orders."""


def write_overview(reports: Sequence[tuple[StudyResult, Path]], title: str, folder: Path, command: str) -> Path:
    """Write `report.html` of a collection.

    Args:
        reports: result of each study and the folder of its report.
        title: of the collection.
        folder: where to.
        command: what makes all of it again.
    """
    joint = JointPlan(tuple(result.plan for result, _ in reports))
    records = {key for result, _ in reports for key in result.records}
    done = sum(stage.fingerprint in records for stage in joint.doable)
    text = (
        templates()
        .get_template("overview.html.j2")
        .render(
            title=title,
            standing=f"As of {datetime.now(UTC):%Y-%m-%d %H:%M} UTC: {done} of {len(joint.doable)} stages are done.",
            lines=[_line(result, Path(os.path.relpath(there, folder))) for result, there in reports],
            verdicts=list(Verdict),
            command=command,
        )
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "report.html", text)
    return folder / "report.html"


def _line(result: StudyResult, folder: Path) -> StudyLine:
    experiment, table = result.plan.experiment.experiment, build_table(result)
    return StudyLine(
        title=experiment.title or experiment.name,
        link=(folder / "report.html").as_posix(),
        profile=result.plan.experiment.profile_name,
        done=sum(stage.fingerprint in result.records for stage in result.plan.stages),
        stages=len(result.plan.stages),
        failed=len(result.failed),
        unavailable=sum(bool(cell.ours and cell.ours.unavailable) for row in table.rows for cell in row.cells.values()),
        found=Counter(pair.verdict for pair in orderings(table)),
    )
