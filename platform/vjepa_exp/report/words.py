"""How numbers are written in reports and on the terminal."""

from __future__ import annotations

from collections import Counter
from math import sqrt

from vjepa_exp.report.orderings import Pair, Verdict
from vjepa_exp.report.table import Column, Gap, Score, Table
from vjepa_exp.track.starts import Start

MISSING = "—"


def percent(value: float | None) -> str:
    """'43.1', and '0.0096' of something as small."""
    return MISSING if value is None else f"{value:.2g}" if 0 < abs(value) < 0.1 else f"{value:.1f}"


def score(value: Score | None) -> str:
    """'43.1 ± 1.2', 'failed', 'not available', where it stands, or a dash where nothing was asked for."""
    if value is not None and value.unavailable:
        return "not available"
    if value is None or value.mean is None:
        return "failed" if value and value.failures else value.waiting[0] if value and value.waiting else MISSING
    spread = "" if value.sd is None else f" ± {percent(value.sd)}"
    return f"{percent(value.mean)}{spread}"


def gap(value: Gap | None) -> str:
    """'+3.1', '−21.4 ± 0.8', or nothing."""
    if value is None:
        return ""
    return f"{value.mean:+.1f}{'' if value.sd is None else f' ± {value.sd:.1f}'}".replace("-", "\N{MINUS SIGN}")


def coverage(value: Score | None) -> str:
    """'240 of 240', with the number of failed seeds and of those that are still to come."""
    if value is None or not value.videos or not value.by_seed:
        return ""
    lacking = {"failed": len(value.failures), "to come": len(value.waiting)}
    missing = [f", {count} seed{'s' if count > 1 else ''} {what}" for what, count in lacking.items() if count]
    return f"{value.covered} of {value.videos}{''.join(missing)}"


def common_coverage(table: Table, column: Column) -> str:
    """The coverage of a column where all its scores have the same, else ''."""
    texts = {coverage(row.cells[column.id].ours) for row in table.rows if row.cells[column.id].ours}
    return texts.pop() if len(texts) == 1 else ""


def duration(seconds: float) -> str:
    """'48 s', '3 min 20 s', '2 h 5 min'."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


SKIPPED = (
    "Pretraining skips such videos by a rule that depends on the seed and the position alone; a score leaves them out "
    "and says so. Each is listed in its stage's `quarantine.parquet`."
)
RESTARTED = (
    "Seconds from the command, or from the loss of the training processes, to the end of the next step. What was "
    "trained on is the same as without the interruption."
)


CHOSEN = (
    "Learning settings of each probe, chosen among candidates that were trained on the rest of the training split and "
    "scored on its held-out videos. The probe was then trained on the whole split; the test videos took no part in it."
)


def phases(start: Start) -> str:
    """'plan 2.1, ray 4.0, workers 6.5, restore 0.4, batch 1.9, step 0.1'."""
    return ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in start.seconds.items())


def roughly(seconds: float) -> str:
    """An estimate in its largest unit: '40 s', '37 min', '3 h', '27 days'."""
    for unit, size, most in (("s", 1, 90), ("min", 60, 90), ("h", 3600, 48)):
        if seconds < most * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


def mlflow_note(command: str) -> str:
    """What has to run for links into MLflow to open, in one sentence; '' where that is a server."""
    return f"Links into MLflow open while “{command}” runs on its usual port." if command else ""


def scale_note(table: Table) -> str:
    """How the published numbers and ours may be compared, in one sentence."""
    if table.published is None:
        return ""
    if table.same_scale:
        return "Paper: published numbers. Here: ours, under the same recipe; Δ is ours minus published."
    return (
        "Another scale: the paper's numbers come from its models, data and budget, ours from this profile's. "
        "Compare distances within one source, never a number of one with a number of the other."
    )


def score_note(table: Table) -> str:
    """What a score is, what it may be trusted to, and what chance would be, in one or two sentences."""
    if not any(column.is_score for column in table.columns):
        return ""
    scores, seeds = _scores(table), _num_seeds(table)
    repeats = f"{seeds} seeds of the probe, on one encoder each" if table.probe_seeds else f"{seeds} seeds"
    spread = f", mean ± standard deviation over {repeats}" if seeds > 1 else ", one seed"
    note = f"Top-1 in percent{spread}."
    if scores:
        covered = min(score.covered for score in scores)
        note += f" On {covered} test clips the standard error of one score is up to {50 / sqrt(covered):.1f} points."
    if any(column.chance for column in table.columns):
        note += " Chance: always naming the commonest class."
    return note


def gap_note(table: Table) -> str:
    """What Δ means, in one sentence."""
    if table.same_scale or table.reference is None:
        return ""
    paired = ", seed by seed" if _num_seeds(table) > 1 else ""
    return f"Δ: points above or below “{table.reference}” in the same column{paired}."


def order_note(pairs: tuple[Pair, ...]) -> str:
    """Which of the paper's orderings hold here, in one or two sentences; '' where it orders nothing that we scored."""
    if not pairs:
        return ""
    found = Counter(pair.verdict for pair in pairs)
    counts = ", ".join(f"{found[verdict]} {verdict}" for verdict in Verdict)
    one_seed = any(pair.ours.sd is None for pair in pairs)
    error = "of the test clips and of the seeds"
    if one_seed:
        error = "of the test clips alone: one seed says nothing of seeds"
    elif any(pair.probe_seeds for pair in pairs):
        error = "of the test clips and of the probes' seeds: one encoder a row says nothing of others"
    earlier = sum(pair.earlier for pair in pairs)
    who = "the paper" if earlier < len(pairs) else "the earlier version of the paper (ICLR 2024 submission)"
    who += " or its earlier version" if 0 < earlier < len(pairs) else ""
    return (
        f"Of {len(pairs)} pairs of rows that {who} orders, here: {counts} (less than two standard errors apart, "
        f"{error})."
    )


def unavailable_note(table: Table) -> str:
    """Why cells are not available, each reason once with its columns or rows."""
    reasons: dict[str, dict[str, None]] = {}
    for row in table.rows:
        for column in table.columns:
            score = row.cells[column.id].ours
            if score and score.unavailable:
                reasons.setdefault(score.unavailable, {})[f"{row.label}, {column.label}"] = None
    parts = [f"{reason} ({len(cells)} cells, first: {next(iter(cells))})" for reason, cells in reasons.items()]
    return f"Not available: {'; '.join(parts)}." if parts else ""


def doubt_note(table: Table) -> str:
    """What is uncertain about the published numbers of this table."""
    doubts = table.published.uncertain if table.published else ()
    return f"Uncertain in the paper: {' '.join(f'{doubt.where}: {doubt.doubt}' for doubt in doubts)}" if doubts else ""


def _scores(table: Table) -> list[Score]:
    """Scores of test videos; a derived number covers none itself."""
    scores = [cell.ours for row in table.rows for cell in row.cells.values() if cell.ours]
    return [score for score in scores if score.by_seed and score.covered]


def _num_seeds(table: Table) -> int:
    return max((len(score.by_seed) for score in _scores(table)), default=1)
