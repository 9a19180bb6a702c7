"""The written report: one page that needs nothing else, and the same facts as Markdown."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html import escape, unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from vjepa_exp.report.write import write_report
from vjepa_exp.track.starts import Start, note_start
from vjepa_exp.track.tracker import Tracker

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or ""


class Page(HTMLParser):
    """What a page shows and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.sources, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.sources += [values[name] for name in ("src", "href") if name in values]
        if tag not in ("img", "meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text.append(data)

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.text))


@pytest.fixture
def written(finish, tmp_path: Path) -> dict[str, Path]:
    study = finish("table4_masking.yaml", "smoke", lambda *_: 43.21)
    paths = write_report(study.result, study.store, tmp_path / "report", "vjepa-exp run <table4>")
    return {path.name: path for path in paths}


def test_every_file_is_there_and_pictures_can_be_opened(written) -> None:
    assert {"report.md", "report.html", "masks.png", "loss.png", "accuracy_k400.png"} <= set(written)
    for name, path in written.items():
        if name.endswith(".png"):
            with Image.open(path) as image:
                assert len(set(image.convert("L").resize((64, 64)).tobytes())) > 2, f"{name} is blank"


def test_html_is_self_contained_and_well_formed(written) -> None:
    page = Page(written["report.html"].read_text(encoding="utf-8"))
    assert page.open == []
    assert page.sources
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)


@pytest.mark.parametrize("name", ["report.html", "report.md"])
def test_report_holds_both_sources_and_says_that_they_differ(written, name: str) -> None:
    text = written[name].read_text(encoding="utf-8")
    words = Page(text).words if name.endswith("html") else text
    facts = ("43.2", "72.9", "Another scale", "random-tube[0.9]", "32 of 32", "vjepa-exp run <table4>")
    for fact in (*facts, "chance", "12.5", "8.8 points", "k400: tube"):
        assert fact in words, fact


def test_markdown_points_to_the_pictures_beside_it(written) -> None:
    named = re.findall(r"\]\((\w+\.png)\)", written["report.md"].read_text(encoding="utf-8"))
    assert named
    assert set(named) <= set(written)


def test_html_links_to_the_page_of_mlflow_that_compares_the_variants(finish, tmp_path: Path) -> None:
    study = finish("table4_masking.yaml", "smoke", lambda *_: 43.21)
    plan = study.result.plan
    tracker = Tracker(plan, study.store, None)
    tracker.sync(study.result.records, {}, {}, ended=True)
    link = tracker.compare_page()
    assert link is not None
    text = write_report(study.result, study.store, tmp_path / "report", "x")[1].read_text(encoding="utf-8")
    assert f'<a href="{escape(link)}">' in text


def test_failures_are_in_the_report(finish, tmp_path: Path) -> None:
    study = finish("quickstart.yaml", "paper", lambda *_: 50.0, failed=lambda stage: stage.kind == "probe")
    paths = write_report(study.result, study.store, tmp_path / "report", "vjepa-exp run quickstart")
    for path in paths[:2]:
        text = path.read_text(encoding="utf-8")
        assert "the worker died" in text
        assert "failed" in text


def test_what_could_not_be_read_is_counted_by_data_set_and_reason(finish, tmp_path: Path) -> None:
    study = finish("quickstart.yaml", "paper", lambda *_: 50.0, unreadable={"k710": {"corrupt": 17, "crash": 2}})
    for path in write_report(study.result, study.store, tmp_path / "report", "x")[:2]:
        text = path.read_text(encoding="utf-8")
        words = Page(text).words if path.suffix == ".html" else text.replace("|", "").replace("  ", " ")
        assert "Videos that could not be read" in words
        assert "k710 corrupt 17" in words
        assert "k710 crash 2" in words


def test_restarts_are_in_the_report_and_a_run_without_any_does_not_speak_of_them(finish, tmp_path: Path) -> None:
    study = finish("quickstart.yaml", "paper", lambda *_: 50.0)
    folder = study.store.path(next(stage for stage in study.result.plan.stages if stage.kind == "pretrain"))
    note_start(folder, Start(0, 0, 1.0, {"plan": 1.0, "ray": 4.0}))
    written = write_report(study.result, study.store, tmp_path / "report", "x")[:2]
    assert not any("Restarts" in path.read_text(encoding="utf-8") for path in written)
    note_start(folder, Start(400, 13, 2.0, {"plan": 1.5, "ray": 4.5, "batch": 92.0}))
    for path in write_report(study.result, study.store, tmp_path / "report", "x")[:2]:
        text = path.read_text(encoding="utf-8")
        words = Page(text).words if path.suffix == ".html" else text
        assert "Restarts" in words
        for fact in ("400", "13", "1 min 38 s", "plan 1.5, ray 4.5, batch 92.0"):
            assert fact in words, fact


def test_study_without_any_result_is_still_written(finish, tmp_path: Path) -> None:
    study = finish("quickstart.yaml", "paper", lambda *_: 0.0, failed=lambda stage: True)
    names = {path.name for path in write_report(study.result, study.store, tmp_path / "report", "x")}
    assert names == {"report.md", "report.html", "report.tex", "masks.png"}


def test_a_report_replaces_the_former_one_and_leaves_nothing_else(finish, tmp_path: Path) -> None:
    study, folder = finish("quickstart.yaml", "paper", lambda *_: 50.0), tmp_path / "report"
    before = {path.name for path in write_report(study.result, study.store, folder, "first")}
    (folder / "accuracy_of_a_column_that_is_gone.png").touch()
    write_report(study.result, study.store, folder, "second")
    assert {path.name for path in folder.iterdir()} == before
    assert all("second" in (folder / name).read_text() for name in ("report.md", "report.html", "report.tex"))


def test_stages_and_the_study_link_to_their_runs_in_mlflow(finish, tmp_path: Path) -> None:
    study = finish("quickstart.yaml", "paper", lambda *_: 50.0)
    without = write_report(study.result, study.store, tmp_path / "report", "x")
    assert not any("MLflow" in path.read_text(encoding="utf-8") for path in without[:2])

    tracker = Tracker(study.result.plan, study.store, None)
    tracker.sync(study.result.records, {}, {}, ended=True)
    page, markdown = (
        path.read_text(encoding="utf-8")
        for path in sorted(write_report(study.result, study.store, tmp_path / "report", "x")[:2])
    )
    for stage in study.result.plan.stages:
        address = f"http://127.0.0.1:5000/#/runs/{tracker.run_id(stage)}"
        assert f'<a href="{address}"><code>{stage.id}</code></a>' in page
        assert f"[`{stage.id}`]({address})" in markdown
    for text in (page, markdown):
        assert f"/#/runs/{tracker.page().rpartition('/')[2]}" in text
        assert f"vjepa-exp ui --store {study.store.root}" in text


PRESS = """
<script>
const header = document.querySelectorAll("table.scores thead tr:last-child th")[2].querySelector("button");
const rows = () => [...document.querySelectorAll("table.scores tbody tr")].map((row) => row.cells[0].textContent);
const seen = [rows()];
for (let i = 0; i < 3; i++) { header.click(); seen.push(rows()); }
document.body.dataset.seen = JSON.stringify(seen);
</script>
"""


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine")
def test_a_press_on_a_header_sorts_the_rows(finish, tmp_path: Path) -> None:
    scores = {"tube": 20.0, "causal6": 40.0, "causal12": 9.0, "multiblock": 30.0}

    study = finish("table4_masking.yaml", "smoke", lambda variant, *_: scores[variant])
    tubes = [cell.stage.fingerprint for cell in study.result.plan.cells if cell.variant == "tube"]
    records = {key: record for key, record in study.result.records.items() if key not in tubes}
    page = write_report(replace(study.result, records=records), study.store, tmp_path / "report", "x")[1]
    page.write_text(page.read_text(encoding="utf-8").replace("</body>", f"{PRESS}</body>"), encoding="utf-8")
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
    command = [CHROMIUM, *flags, f"--user-data-dir={tmp_path / 'browser'}", "--dump-dom", page.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.search(r'data-seen="(.*?)"', dom)
    assert found is not None
    tube, six, twelve, multi = "random-tube[0.9]", "causal multi-block[6]", "causal multi-block[12]", "multi-block"
    assert json.loads(unescape(found[1])) == [
        [tube, six, twelve, multi],
        [six, multi, twelve, tube],
        [twelve, multi, six, tube],
        [tube, six, twelve, multi],
    ], "numbers as numbers, what has none at the end, the paper's order at last"
