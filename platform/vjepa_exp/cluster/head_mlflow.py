"""MLflow with PostgreSQL as containers of the head, for clusters of `ray up`. Lives as long as the head does."""

from __future__ import annotations

from vjepa_exp.cluster.layout import MLFLOW_PORT, NO_JOBS, USER_ID, artifacts_folder
from vjepa_exp.spec.cluster import ClusterSpec, InClusterTracking

SERVER = f"http://127.0.0.1:{MLFLOW_PORT}"
"""As the driver on the head sees it: Ray's container shares the head's network."""

SECRETS = "~/.mlflow/postgres.env"
"""Made on the head when it starts first; it is in no file of ours and never leaves the head."""


def head_mlflow_commands(spec: ClusterSpec) -> list[str]:
    """Commands for the head that may be given any number of times.

    The server listens on the head's loopback interface; PostgreSQL only on a network that the two containers share.
    """
    assert isinstance(spec.tracking, InClusterTracking)
    artifacts = artifacts_folder(spec)
    quiet = " ".join(f"-e {name}={value}" for name, value in NO_JOBS.items())
    write = "printf 'POSTGRES_PASSWORD=%s\\nPGPASSWORD=%s\\n'"
    return [
        f"test -s {SECRETS} || (umask 077 && mkdir -p ~/.mlflow && word=$(openssl rand -hex 24) && "
        f"{write} $word $word > {SECRETS})",
        f"sudo install -d -o {USER_ID} -g {USER_ID} {artifacts}",
        "docker network inspect mlflow > /dev/null 2>&1 || docker network create mlflow",
        _container(
            "mlflow-postgres",
            "-v mlflow-postgres:/var/lib/postgresql/data -e POSTGRES_USER=mlflow -e POSTGRES_DB=mlflow "
            f"{spec.tracking.postgres_image}",
        ),
        _container(
            "mlflow",
            f"-p 127.0.0.1:{MLFLOW_PORT}:{MLFLOW_PORT} -v {artifacts}:{artifacts} {quiet} {spec.image} "
            f"mlflow server --host 0.0.0.0 --port {MLFLOW_PORT} "
            f"--backend-store-uri postgresql+psycopg2://mlflow@mlflow-postgres/mlflow "
            f"--artifacts-destination {artifacts}",
        ),
    ]


def _container(name: str, rest: str) -> str:
    run = f"docker run -d --name {name} --network mlflow --restart unless-stopped --env-file {SECRETS}"
    return f"docker container inspect {name} > /dev/null 2>&1 || {run} {rest}"
