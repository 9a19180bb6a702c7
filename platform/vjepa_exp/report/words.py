"""How numbers are written in reports and on the terminal."""

from __future__ import annotations

from vjepa_exp.report.table import Score, Table

MISSING = "—"


def percent(value: float | None) -> str:
    """'43.1'."""
    return MISSING if value is None else f"{value:.1f}"


def score(value: Score | None) -> str:
    """'43.1 ± 1.2', 'failed', or a dash where nothing was measured."""
    if value is None or value.mean is None:
        return "failed" if value and value.failures else MISSING
    spread = "" if value.sd is None else f" ± {value.sd:.1f}"
    return f"{value.mean:.1f}{spread}"


def gap(value: float | None) -> str:
    """'+3.1', '−21.4', or nothing."""
    return "" if value is None else f"{value:+.1f}".replace("-", "\N{MINUS SIGN}")


def coverage(value: Score | None) -> str:
    """'240 of 240 clips, 3 seeds'."""
    if value is None or not value.values:
        return ""
    seeds = len(value.values)
    missing = f", {len(value.failures)} failed" if value.failures else ""
    return f"{value.covered} of {value.videos}, {seeds} seed{'s' if seeds > 1 else ''}{missing}"


def duration(seconds: float) -> str:
    """'48 s', '3 min 20 s', '2 h 5 min'."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def roughly(seconds: float) -> str:
    """An estimate in its largest unit: '40 s', '37 min', '3 h', '27 days'."""
    for unit, size, most in (("s", 1, 90), ("min", 60, 90), ("h", 3600, 48)):
        if seconds < most * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


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


def gap_note(table: Table) -> str:
    """What Δ means, in one sentence."""
    if table.same_scale or table.reference is None:
        return ""
    return f"Δ: points above or below “{table.reference}” in the same column."
