"""MLflow with PostgreSQL as containers of the head, for clusters of `ray up`. Lives as long as the head does."""

from __future__ import annotations

import shlex

from vjepa_exp.cluster.layout import MLFLOW_ADMIN, MLFLOW_PORT, USER_ID, artifacts_folder, serve_command
from vjepa_exp.spec.cluster import ClusterSpec, InClusterTracking

SERVER = f"http://127.0.0.1:{MLFLOW_PORT}"
"""As the driver on the head sees it: Ray's container shares the head's network."""

FOLDER = "~/.mlflow"
DATABASE, SERVER_SECRETS, CLIENT = f"{FOLDER}/postgres.env", f"{FOLDER}/server.env", f"{FOLDER}/client.env"
"""Made on the head when it starts first; they are in no file of ours and never leave the head."""

CLIENT_OPTIONS = [f"--env-file {CLIENT}"]
"""For the head's container of Ray, in which drivers run: no worker talks to MLflow."""


def head_mlflow_commands(spec: ClusterSpec) -> list[str]:
    """Commands for the head that may be given any number of times.

    The server listens on the head's loopback interface and asks for a password; PostgreSQL listens only on a network
    that the two containers share.
    """
    assert isinstance(spec.tracking, InClusterTracking)
    artifacts = artifacts_folder(spec)
    postgres = "mlflow-postgres"
    return [
        _make_once({DATABASE: ["POSTGRES_PASSWORD=%s", "PGPASSWORD=%s"]}),
        _make_once(
            {
                SERVER_SECRETS: ["MLFLOW_AUTH_ADMIN_PASSWORD=%s"],
                CLIENT: ["MLFLOW_TRACKING_PASSWORD=%s", f"MLFLOW_TRACKING_USERNAME={MLFLOW_ADMIN}"],
            },
        ),
        f"sudo install -d -o {USER_ID} -g {USER_ID} {artifacts}",
        "docker network inspect mlflow > /dev/null 2>&1 || docker network create mlflow",
        _container(
            postgres,
            [DATABASE],
            f"-v {postgres}:/var/lib/postgresql/data -e POSTGRES_USER=mlflow -e POSTGRES_DB=mlflow "
            f"{spec.tracking.postgres_image}",
        ),
        _container(
            "mlflow",
            [DATABASE, SERVER_SECRETS],
            f"-p 127.0.0.1:{MLFLOW_PORT}:{MLFLOW_PORT} -v {artifacts}:{artifacts} {spec.image} "
            f"{shlex.join(serve_command(postgres, artifacts))}",
        ),
    ]


def _make_once(files: dict[str, list[str]]) -> str:
    """Make a password, and files that hold it where their lines have a '%s'; the last one says that all is done."""
    write = []
    for file, lines in files.items():
        words = " ".join("$word" for line in lines if "%s" in line)
        write.append(f"printf '{''.join(f'{line}{chr(92)}n' for line in lines)}' {words} > {file}")
    last = list(files)[-1]
    made = f"umask 077 && mkdir -p {FOLDER} && word=$(openssl rand -hex 24) && {' && '.join(write)}"
    return f"test -s {last} || ({made})"


def _container(name: str, secrets: list[str], rest: str) -> str:
    files = " ".join(f"--env-file {file}" for file in secrets)
    run = f"docker run -d --name {name} --network mlflow --restart unless-stopped {files}"
    return f"docker container inspect {name} > /dev/null 2>&1 || {run} {rest}"
