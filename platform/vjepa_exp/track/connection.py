"""The MLflow client of a run: imported and connected when it is first asked for."""

from __future__ import annotations

import logging
import os
from functools import cached_property
from typing import TYPE_CHECKING

from vjepa_exp.graph.store import Store
from vjepa_exp.track.database import EXPERIMENT, artifact_folder, database_file, make_database, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

KIND_OF_EXPERIMENT = {"mlflow.experimentKind": "custom_model_development"}  # the pages that the UI begins with
ENVIRONMENT = {
    # A request that was done although its answer was lost must not be sent again blindly: it would make a second run.
    # What fails is tried again by the mirror, which looks first.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    # A server that is away must not hold up a run; what it misses is sent later.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class Connection:
    """To one server.

    Args:
        store: that holds the SQLite server where no other is named.
        uri: of the MLflow server; None: SQLite in the store.

    Attributes:
        uri: of the server.
    """

    def __init__(self, store: Store, uri: str | None) -> None:
        self.uri = tracking_uri(store, uri)
        self._store, self._is_own = store, uri is None

    @cached_property
    def client(self) -> MlflowClient:
        """The client; makes the database of a store that has none."""
        os.environ.update({name: value for name, value in ENVIRONMENT.items() if name not in os.environ})
        from mlflow import MlflowClient  # takes seconds, and sets levels of its own

        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.CRITICAL)  # failures are told by the mirror, in a line
        if self._is_own:
            make_database(database_file(self._store), artifact_folder(self._store))
        return MlflowClient(self.uri)

    @cached_property
    def experiment(self) -> str:
        """Id of the experiment that holds the runs of all studies, made where there is none."""
        found = self.client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        artifacts = artifact_folder(self._store).as_uri() if self._is_own else None
        return str(self.client.create_experiment(EXPERIMENT, artifacts, KIND_OF_EXPERIMENT))
