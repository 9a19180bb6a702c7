"""A report as one self-contained HTML page: no file beside it, nothing from the network."""

from __future__ import annotations

import base64
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from vjepa_exp.report import words
from vjepa_exp.report.orderings import Verdict, count_verdicts
from vjepa_exp.report.page import Page


def templates() -> Environment:
    """The templates of all pages."""
    return Environment(
        loader=PackageLoader("vjepa_exp.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def html(page: Page) -> str:
    """The whole report, pictures inside."""
    environment = templates()
    environment.filters |= {
        "percent": words.percent,
        "score": words.score,
        "gap": words.gap,
        "coverage": words.coverage,
        "duration": words.duration,
        "phases": words.phases,
        "data_uri": _data_uri,
    }
    return environment.get_template("report.html.j2").render(
        page=page,
        covered={column.id: words.common_coverage(page.table, column) for column in page.table.columns},
        score_note=words.score_note(page.table),
        scale_note=words.scale_note(page.table),
        gap_note=words.gap_note(page.table),
        unavailable_note=words.unavailable_note(page.table),
        mlflow_note=words.mlflow_note(page.mlflow_note),
        doubt_note=words.doubt_note(page.table),
        order_note=words.order_note(page.pairs),
        verdicts=count_verdicts(page.pairs),
        verdict_names=list(Verdict),
        skipped=words.SKIPPED,
        restarted=words.RESTARTED,
        chosen=words.CHOSEN,
    )


def _data_uri(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
