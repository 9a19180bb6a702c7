"""Where a run's MLflow keeps what it is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from vjepa_exp.graph.store import Store
from vjepa_exp.track.connection import Connection


@pytest.mark.parametrize("name", [None, "other.db"])
def test_artifacts_of_a_database_are_in_the_store_wherever_the_command_runs(
    name: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    store = Store(tmp_path / "runs")
    store.root.mkdir()  # as a run holds it
    connection = Connection(store, name and f"sqlite:///{tmp_path / name}")
    run = connection.client.create_run(connection.experiment)
    connection.client.log_text(run.info.run_id, "told", "told.txt")
    kept = tmp_path / "runs" / "mlflow-artifacts" / run.info.run_id / "artifacts" / "told.txt"
    assert kept.read_text(encoding="utf-8") == "told"
    assert list(here.iterdir()) == []
