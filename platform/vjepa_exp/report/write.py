"""Write the report of a study."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from vjepa_exp.graph.result import StudyResult
from vjepa_exp.graph.store import Store
from vjepa_exp.report.figures import draw_figures
from vjepa_exp.report.html import html
from vjepa_exp.report.latex import latex
from vjepa_exp.report.markdown import markdown
from vjepa_exp.report.page import build_page


def write_report(result: StudyResult, store: Store, folder: Path, command: str) -> list[Path]:
    """Write `report.md`, `report.html`, `report.tex` and the pictures into `folder`.

    Whoever opens one of them meanwhile sees the former one or the new one in full.

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
    with TemporaryDirectory(prefix=".report-", dir=folder) as aside:
        page = replace(page, figures=draw_figures(result, page.table, store, Path(aside)))
        texts = {"report.md": markdown(page), "report.html": html(page), "report.tex": latex(page)}
        for name, text in texts.items():
            (Path(aside) / name).write_text(text, encoding="utf-8")
        files = [*(Path(aside) / name for name in texts), *(figure.path for figure in page.figures)]
        for former in set(folder.glob("*.png")) - {folder / file.name for file in files}:
            former.unlink(missing_ok=True)
        return [file.replace(folder / file.name) for file in files]
