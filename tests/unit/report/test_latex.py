"""The table as LaTeX: what is special in it is escaped, every row fits its columns, LaTeX takes it."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from vjepa_exp.report.latex import escape, latex
from vjepa_exp.report.page import Page, build_page

HOSTILE = '50% of a_b & {c} $d #e ~f ^g \\h [i] *j <k> |l| "m"  Δ − ± × – — “n” ‘o’ … é ß ø ạ Ł 日本 😀'  # noqa: RUF001


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("random-tube[0.9]", "random-tube{[}0.9{]}"),
        ("a_b & 50 %", r"a\_b \& 50 \%"),
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("\N{MINUS SIGN}1.5 ± 0.3", r"$-$1.5 $\pm$ 0.3"),
        ("Δ", r"$\Delta$"),
        ("two\n\nparagraphs", "two paragraphs"),
        ("naïve", "naïve"),
        ("ạŁ日", "a??"),
    ],
)
def test_escape(text: str, written: str) -> None:
    assert escape(text) == written


@pytest.fixture
def pages(finish):
    """Pages of several kinds of table by name."""

    def make(name: str, profile: str = "smoke", sets: tuple[str, ...] = (), **options: object) -> Page:
        study = finish(name, profile, lambda v, c, seed, b: 43.21 + seed, sets, **options)
        return build_page(study.result, study.store, "vjepa-exp run '50% {of}'\nit")

    return make


def rows(text: str) -> list[list[str]]:
    """Cells of every line of the tabulars, in the order of the file."""
    return [re.split(r" & ", line.removesuffix(r" \\")) for line in text.splitlines() if line.endswith(r" \\")]


def test_paper_and_ours_stand_in_the_papers_layout_with_their_differences(pages) -> None:
    text = latex(pages("table4_masking.yaml", sets=("seeds=[0, 1, 2]",)))
    table = rows(text)
    assert table[1][1:5] == ["paper", r"$\Delta$", "here", r"$\Delta$"]
    assert table[2][:5] == ["random-tube{[}0.9{]}", "51.5", "$-$21.4", r"44.2 $\pm$ 1.0", r"+0.0 $\pm$ 0.0"]
    assert [row[0] for row in table[2:]][-2:] == ["multi-block", "chance"]
    assert table[-1][:5] == ["chance", "", "", "12.5", ""]
    caption = re.search(r"\\caption\{(.*)\}", text)
    assert caption is not None
    for fact in ("Another scale", "seeds 0, 1, 2", "profile smoke", "K400 32 of 32", "standard deviation"):
        assert fact in caption[1], fact


def test_under_the_papers_recipe_the_difference_is_to_the_published_number(pages) -> None:
    table = rows(latex(pages("table4_masking.yaml", "paper")))
    assert table[1][1:4] == ["paper", "here", r"$\Delta$"]
    assert table[2][1:4] == ["51.5", "277.2", f"+{277.21 - 51.5:.1f}"], "the seed is 234"


def test_every_row_has_as_many_cells_as_its_columns(pages) -> None:
    for name in ("table4_masking.yaml", "table5_pixel_models.yaml", "figure8_masking.yaml", "quickstart.yaml"):
        text = latex(pages(name, "paper" if name == "quickstart.yaml" else "smoke"))
        parts = re.findall(
            r"\\begin\{tabular\}\{(?:l|p\{.33\\linewidth\})(.*?)\}\n(.*?)\\end\{tabular\}", text, re.DOTALL
        )
        assert parts
        for spec, body in parts:
            width = 1 + sum(map(int, re.findall(r"\*\{(\d)\}", spec)))
            assert 1 < width <= 13
            for cells in rows(body):
                spanned = sum(
                    int(found[1]) - 1 for cell in cells if (found := re.match(r"\\multicolumn\{(\d)\}", cell))
                )
                assert len(cells) + spanned == width, cells


def test_what_has_no_number_says_so_in_few_letters(pages) -> None:
    text = latex(pages("table5_pixel_models.yaml"))
    assert " n/a " in text
    assert "not built yet" in text
    lost = latex(pages("table4_masking.yaml", failed=lambda stage: stage.kind == "probe"))
    assert "failed" in lost


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX on this machine")
@pytest.mark.parametrize(
    "name", ["table4_masking.yaml", "table6_frozen.yaml", "figure8_masking.yaml", "quickstart.yaml"]
)
def test_latex_takes_it(pages, tmp_path: Path, name: str) -> None:
    page = pages(name, "paper" if name == "quickstart.yaml" else "smoke")
    label = replace(page.table.rows[0], label=HOSTILE)
    table = replace(page.table, title=HOSTILE, rows=(label, *page.table.rows[1:]))
    (tmp_path / "report.tex").write_text(latex(replace(page, table=table)), encoding="utf-8")
    document = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\\input{report}\\end{document}"
    (tmp_path / "paper.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout, "it fits a page with the usual margins"
    assert (tmp_path / "paper.pdf").stat().st_size > 10_000
