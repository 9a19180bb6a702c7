"""The MLflow client of a run: imported and connected when it is first asked for."""

from __future__ import annotations

import logging
import os
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from vjepa_exp.graph.store import Store
from vjepa_exp.spec.errors import UserError
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


REFUSALS = {
    "UNAUTHENTICATED": "asks for a name and a password, or those it got are wrong: set MLFLOW_TRACKING_USERNAME and "
    "MLFLOW_TRACKING_PASSWORD, or write them into ~/.mlflow/credentials",
    "PERMISSION_DENIED": f"this user may not write into the experiment '{EXPERIMENT}': its owner or the administrator "
    "can permit it (EDIT)",
}


def refusal(error: Exception) -> str:
    """What to do where a server knows us and does not want us; '' where it is something else."""
    return REFUSALS.get(getattr(error, "error_code", ""), "")


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

    def require(self) -> None:
        """See whether runs may be written, before hours of work: a server that is away is none of this call's business.

        Raises:
            UserError: the server does not know the password, or the user may not write.
        """
        if not self._is_served:
            return
        client = self.client
        from mlflow.exceptions import MlflowException

        try:
            # Writes what is there: only who may write runs may do it.
            client.set_experiment_tag(self.experiment, *next(iter(KIND_OF_EXPERIMENT.items())))
        except MlflowException as error:
            if reason := refusal(error):
                raise UserError(f"MLflow at {self.uri}: {reason}") from None

    @cached_property
    def experiment(self) -> str:
        """Id of the experiment that holds the runs of all studies, made where there is none."""
        found = self.client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        # A server knows where artifacts go; of a bare database MLflow would put them where the command happens to run.
        artifacts = None if self._is_served else artifact_folder(self._store).as_uri()
        return str(self.client.create_experiment(EXPERIMENT, artifacts, KIND_OF_EXPERIMENT))

    @property
    def _is_served(self) -> bool:
        return urlsplit(self.uri).scheme in ("http", "https")
