"""The SQLite database of a store, made whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory


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
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # takes seconds

    part = path.with_name(f".{path.name}.part")
    with TemporaryDirectory(prefix="mlflow-") as folder:
        made = Path(folder) / path.name
        SqlAlchemyStore(f"sqlite:///{made}", artifacts.as_uri()).engine.dispose()
        try:
            shutil.copyfile(made, part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
