"""`report` while another process works in the store: what is done, what runs, what waits."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vjepa_exp.commands import study
from vjepa_exp.graph.store import Store
from vjepa_exp.spec.errors import UserError

RUN = """
import json, sys
from pathlib import Path
from vjepa_exp.commands.studies import Request, save_request
from vjepa_exp.commands.study import prepare
from vjepa_exp.track.journal import JOURNAL, Journal
from vjepa_exp.track.progress import Progress

spec, folder = sys.argv[1], Path(sys.argv[2])
study = prepare(Request(spec, "smoke", datasets=str(folder / "datasets.yaml")), folder / "runs")
store, plan = study.store, study.plan
tube = [cell for cell in plan.cells if cell.variant == "tube"]
done = {plan.pretraining["tube", 234].fingerprint, tube[0].stage.fingerprint}
half = {plan.pretraining["causal6", 234].fingerprint: ("step", 5, 12), tube[1].stage.fingerprint: ("train clip", 8, 32)}
with store.lock():
    save_request(study.folder, study.request)
    for stage in plan.stages:
        folder = store.begin(stage)
        if stage.kind == "data" or stage.fingerprint in done:
            metrics = {"top1": 43.21, "chance": 12.5} if stage.kind == "probe" else {"loss": 0.5}
            coverage = {"n": 32, "covered": 32} if stage.kind == "probe" else {}
            store.commit(stage, metrics, [], {"seconds": 3.0, "coverage": coverage})
        elif stage.fingerprint in half:
            journal = Journal(folder / JOURNAL)
            for step in range(1, 6):
                journal.write(step, {"loss": 1 / step})
            Progress(*half[stage.fingerprint]).write(folder)
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def worker(tmp_path: Path, repo_root: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process in the middle of a run of Table 4: it holds the store."""
    spec = repo_root / "experiments" / "table4_masking.yaml"
    command = [sys.executable, "-c", RUN, str(spec), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def test_a_report_of_a_run_that_goes_on(worker, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "runs"
    study.report(None, store)
    printed = capsys.readouterr().out
    summary = "3 of 17 stages are done, 2 are running, 12 are not begun"
    assert summary in printed

    folder = store / "reports" / "table4-masking-smoke"
    page = (folder / "report.html").read_text(encoding="utf-8")
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    for text in (page, markdown):
        assert summary in text
        assert "43.2" in text
        assert "running, step 5 of 12" in text
        assert "pretrain running, step 5 of 12" in text, "a probe says what it waits for"
        assert "running, train clip 8 of 32" in text
    line = next(line for line in markdown.splitlines() if line.startswith("| random-tube"))
    assert ("**43.2**" in line, "**running, train clip 8 of 32**" in line, "**not begun**" in line) == (True,) * 3
    last = next(line for line in markdown.splitlines() if line.startswith("| multi-block |"))
    assert last.count("**not begun**") == 3
    assert (folder / "loss.png").is_file(), "the loss of what runs is drawn as far as it goes"
    assert "running" in (folder / "report.tex").read_text(encoding="utf-8")
    assert [path.name for path in folder.glob(".*")] == []


def test_the_run_is_not_disturbed_and_once_it_is_gone_nothing_runs(
    worker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "runs"
    study.report(None, store)
    with pytest.raises(UserError, match=f"in use by process {worker.pid}"), Store(store).lock():
        pass
    worker.kill()
    worker.wait()
    capsys.readouterr()
    study.report(None, store)
    assert "3 of 17 stages are done, 2 are stopped, 12 are not begun" in capsys.readouterr().out
    markdown = (store / "reports" / "table4-masking-smoke" / "report.md").read_text(encoding="utf-8")
    assert "stopped at step 5 of 12" in markdown
    assert "running" not in markdown
