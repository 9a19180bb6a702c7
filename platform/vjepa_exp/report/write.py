"""Write the report of a study."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vjepa_exp.graph.result import StudyResult
from vjepa_exp.graph.store import Store
from vjepa_exp.report.figures import draw_figures
from vjepa_exp.report.html import html
from vjepa_exp.report.markdown import markdown
from vjepa_exp.report.page import build_page


def write_report(result: StudyResult, store: Store, folder: Path, command: str) -> list[Path]:
    """Write `report.md`, `report.html` and the pictures into `folder`.

    Args:
        result: records and failures of the study.
        store: where the stages' journals and starts are.
        folder: made if needed; a former report in it is replaced.
        command: what makes this study again, for the reader.

    Returns:
        The files written, the reports first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    page = build_page(result, store, command)
    page = replace(page, figures=draw_figures(result, page.table, store, folder))
    written = []
    for name, text in (("report.md", markdown(page)), ("report.html", html(page))):
        (folder / name).write_text(text, encoding="utf-8")
        written.append(folder / name)
    return [*written, *(figure.path for figure in page.figures)]
