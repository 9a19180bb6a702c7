"""What all providers share: ports, folders of the shared disk, the command that runs an experiment."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from vjepa_exp.spec.cluster import ClusterSpec, ExternalTracking

Tree = dict[str, Any]
"""A YAML mapping."""

GCS_PORT, OBJECTS_PORT, MLFLOW_PORT, POSTGRES_PORT = 6379, 8076, 5000, 5432
USER_ID = 1000
"""Of the user in the image: processes in containers are not root."""

HEAD_CPUS = 1
"""That Ray may give away on the head: the controllers of trials ask for almost nothing and are best off where no spot
market takes the node; training and decoding ask for whole CPUs and bring nodes up."""

MLFLOW_ADMIN = "admin"
"""Whom the driver writes runs as: the user that `vjepa-exp ui --serve` makes."""

TOKEN_MODE = {"RAY_AUTH_MODE": "token"}
"""Whoever talks to a node of the cluster needs its token."""


def store_folder(spec: ClusterSpec) -> str:
    """Where results are kept."""
    return f"{spec.storage.mount}/runs"


def artifacts_folder(spec: ClusterSpec) -> str:
    """Where MLflow keeps artifacts."""
    return f"{spec.storage.mount}/mlflow"


def nfs_export(spec: ClusterSpec) -> tuple[str, str] | None:
    """Server and path of the shared disk, None where it is a Kubernetes claim."""
    kind, _, place = spec.storage.uri.partition("://")
    server, slash, path = place.partition("/")
    return (server, slash + path) if kind == "nfs" else None


def serve_command(database_host: str, artifacts: str, names: Sequence[str] = ()) -> list[str]:
    """The command of MLflow's container, which listens inside it; it takes passwords from its environment."""
    database = f"postgresql+psycopg2://mlflow@{database_host}/mlflow"
    where = ["--host", "0.0.0.0", "--port", str(MLFLOW_PORT), "--database", database, "--artifacts", artifacts]
    return ["vjepa-exp", "ui", "--serve", *where, *(word for name in names for word in ("--allow", name))]


def run_command(spec: ClusterSpec, experiment: str, in_cluster_server: str) -> str:
    """The command that runs an experiment on the cluster, started on its head; never on CPUs for want of GPUs.

    Args:
        spec: the cluster.
        experiment: as `vjepa-exp run` takes it.
        in_cluster_server: address of the MLflow server that belongs to the cluster, if it has one.
    """
    server = spec.tracking.uri if isinstance(spec.tracking, ExternalTracking) else in_cluster_server
    options = ["--profile", "paper", "--store", store_folder(spec), "--tracking", server]
    registry = ["--datasets", f"{spec.storage.mount}/datasets.yaml"]
    where = ["--set", "execution.address=auto", "--set", "execution.device=cuda"]
    return shlex.join(["vjepa-exp", "run", experiment, *options, *registry, *where])
