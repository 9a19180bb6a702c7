"""The MLflow server that needs no server: a SQLite file and a folder of artifacts in the store."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from vjepa_exp.graph.store import Store

EXPERIMENT = "vjepa-exp"
LOOPBACK, UI_PORT = "127.0.0.1", 5000
"""Where `vjepa-exp ui` listens, if nothing else does."""


def tracking_uri(store: Store, uri: str | None) -> str:
    """The MLflow server of a run: SQLite in the store where none is named."""
    return uri or f"sqlite:///{database_file(store)}"


def database_file(store: Store) -> Path:
    """The SQLite server's file."""
    return (store.root / "mlflow.db").resolve()


def artifact_folder(store: Store) -> Path:
    """Where the SQLite server keeps artifacts."""
    return (store.root / "mlflow-artifacts").resolve()


def runs_page(store: Store) -> str:
    """Where the server on a store's SQLite file shows the runs: a path, in the view for training."""
    with closing(sqlite3.connect(database_file(store))) as database:
        found = database.execute("SELECT experiment_id FROM experiments WHERE name = ?", (EXPERIMENT,)).fetchone()
    return f"#/experiments/{found[0]}/runs?workflowType=machine_learning" if found else ""


def make_database(path: Path, artifacts: Path) -> None:
    """Make MLflow's tables where there is no database yet.

    MLflow cannot use tables that it made only in part, and holds the file of a failed attempt open; so they are made
    elsewhere, and a full disk or a kill leaves nothing of them in the store.

    Args:
        path: of the database.
        artifacts: folder for artifacts of experiments that name none.

    Raises:
        SQLAlchemyError, OSError: the disk is full or cannot be written.
    """
    if path.exists():
        return
    part = path.with_name(f".{path.name}.part")
    with TemporaryDirectory(prefix="mlflow-") as folder:
        made = Path(folder) / path.name
        make_tables(made, artifacts)
        try:
            shutil.copyfile(made, part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def make_tables(path: Path, artifacts: Path) -> None:
    """A new SQLite file with MLflow's tables: its first version and all changes since, which take a second or more."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # takes seconds

    SqlAlchemyStore(f"sqlite:///{path}", artifacts.as_uri()).engine.dispose()
