"""A report as Markdown."""

from __future__ import annotations

from vjepa_exp.report.orderings import Verdict, count_verdicts
from vjepa_exp.report.page import Page, StageLine
from vjepa_exp.report.table import Table
from vjepa_exp.report.words import (
    CHOSEN,
    RESTARTED,
    SKIPPED,
    coverage,
    doubt_note,
    duration,
    gap,
    gap_note,
    mlflow_note,
    order_note,
    percent,
    phases,
    scale_note,
    score,
    score_note,
    unavailable_note,
)


def markdown(page: Page) -> str:
    """The whole report."""
    parts = [f"# {page.table.title}", _header(page), _table(page.table)]
    said = (score_note, scale_note, gap_note, unavailable_note, doubt_note)
    notes = [note for write in said if (note := write(page.table))]
    parts += ["  \n".join(notes)] if notes else []
    if page.failures:
        parts.append("## Failed stages\n\n" + "\n".join(f"- `{s.id}`: {s.failure}" for s in page.failures))
    parts += [f"## Orderings\n\n{_orderings(page)}"] if page.pairs else []
    parts += [f"## {f.title}\n\n![{f.title}]({f.path.name})\n\n{f.caption}" for f in page.figures]
    parts.append("## Stages\n\n" + _stages(page))
    parts += [mlflow_note(page.mlflow_note)] if page.mlflow else []
    parts += [f"## Videos that could not be read\n\n{_unreadable(page)}"] if page.unreadable else []
    parts += [f"## Chosen settings\n\n{_choices(page)}"] if page.choices else []
    parts += [f"## Restarts\n\n{_restarts(page)}"] if page.restarts else []
    parts.append("## Where this comes from\n\n" + "\n".join(f"- {k}: {v}" for k, v in page.provenance.items()))
    parts.append(f"Made by `{page.command}`.")
    parts.append(f"<details><summary>Recipe</summary>\n\n```yaml\n{page.recipe_yaml}```\n\n</details>")
    return "\n\n".join(part for part in parts if part) + "\n"


def _header(page: Page) -> str:
    lines = []
    if page.table.published:
        lines.append(f"{page.table.published.heading} of the paper: {page.table.published.title}.")
    lines.append(f"Profile **{page.profile}**. {page.differs}".strip())
    if page.substituted:
        stand_ins = ", ".join(f"{ours} for {theirs}" for theirs, ours in page.substituted.items())
        lines.append(f"Data sets standing in: {stand_ins}.")
    lines.append(f"Seeds: {', '.join(map(str, page.seeds))}.")
    lines += [f"[Runs in MLflow]({page.mlflow})"] if page.mlflow else []
    lines += [f"**{page.standing}**"] if page.standing else []
    return "  \n".join(lines)


def _table(table: Table) -> str:
    header, rule = [""], ["---"]
    for column in table.columns:
        if table.published:
            header += [f"*{column.label} (paper)*", "*Δ*"] if not table.same_scale else [f"*{column.label} (paper)*"]
            rule += ["--:", "--:"] if not table.same_scale else ["--:"]
        header += [f"**{column.dataset} (here)**", "Δ", "covered"]
        rule += ["--:", "--:", "--:"]
    lines = [header, rule]
    for row in table.rows:
        line = [row.label]
        for column in table.columns:
            cell = row.cells[column.id]
            if table.published:
                line.append(f"*{percent(cell.published)}*")
                line += [] if table.same_scale else [gap(cell.published_gap)]
            line += [f"**{score(cell.ours)}**", gap(cell.our_gap), coverage(cell.ours)]
        lines.append(line)
    if any(column.chance for column in table.columns):
        ahead = [""] * (0 if not table.published else 1 if table.same_scale else 2)
        lines.append(["chance", *(text for c in table.columns for text in (*ahead, percent(c.chance), "", ""))])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _orderings(page: Page) -> str:
    lines = [f"| column | {' | '.join(Verdict)} |", "|---|--:|--:|--:|"]
    for column, found in count_verdicts(page.pairs).items():
        lines.append(f"| {column} | {' | '.join(str(found[verdict]) for verdict in Verdict)} |")
    return "\n".join([*lines, "", order_note(page.pairs)])


def _stages(page: Page) -> str:
    lines = ["| stage | for | state | time |", "|---|---|---|--:|"]
    lines += [
        f"| {_link(s)} | {s.purpose} | {s.state} | {duration(s.seconds) if s.seconds is not None else ''} |"
        for s in page.stages
    ]
    return "\n".join(lines)


def _link(stage: StageLine) -> str:
    return f"[`{stage.id}`]({stage.page})" if stage.page else f"`{stage.id}`"


def _unreadable(page: Page) -> str:
    lines = ["| stage | data set | reason | videos |", "|---|---|---|--:|"]
    lines += [f"| `{line.id}` | {line.dataset} | {line.reason} | {line.videos} |" for line in page.unreadable]
    return "\n".join([*lines, "", SKIPPED])


def _choices(page: Page) -> str:
    lines = ["| probe | chosen | candidates | held-out videos | top-1 there |", "|---|---|--:|--:|--:|"]
    lines += [
        f"| {line.purpose} | {line.chosen} | {line.candidates} | {line.held_out} | {percent(line.top1)} |"
        for line in page.choices
    ]
    return "\n".join([*lines, "", CHOSEN])


def _restarts(page: Page) -> str:
    lines = ["| stage | from step | steps done again | after | of these | lost |", "|---|--:|--:|--:|---|--:|"]
    lines += [
        f"| `{name}` | {start.step} | {start.repeated} | {duration(start.total)} | {phases(start)} "
        f"| {duration(start.lost) if start.lost else ''} |"
        for name, start in page.restarts
    ]
    return "\n".join([*lines, "", RESTARTED])
