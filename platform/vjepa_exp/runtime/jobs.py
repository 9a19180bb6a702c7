"""Ray's jobs on a cluster: drivers that it starts itself, so that they outlive the terminal that asked for them."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import ray
from ray.dashboard.modules.job.pydantic_models import JobDetails
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.problems import nearest

State = Literal["waiting", "running", "done", "failed", "stopped"]
STATES: dict[str, State] = {
    "PENDING": "waiting",
    "RUNNING": "running",
    "SUCCEEDED": "done",
    "FAILED": "failed",
    "STOPPED": "stopped",
}
MARK = "vjepa-exp"
"""Key of the metadata that tells our jobs from others; its value is the version of the code."""
CONNECT_S = 10.0
STOPPING = {
    # As Ctrl-C does: the driver closes its MLflow runs and lets go of the store.
    "RAY_JOB_STOP_SIGNAL": "SIGINT",
    "RAY_JOB_STOP_WAIT_TIME_S": "30",
}


@dataclass(frozen=True)
class Job:
    """One job of ours.

    Attributes:
        id: by which it is called.
        state: how it stands.
        began: when it was submitted, seconds since 1970.
        ended: when it ended, None while it has not.
        store: where its results are, on the cluster.
        spec: the file that it runs, on the cluster.
        why: what Ray says of a failure, in a line.
    """

    id: str
    state: State
    began: float
    ended: float | None
    store: str
    spec: str
    why: str

    @property
    def over(self) -> bool:
        """Whether it has ended, however."""
        return self.state not in ("waiting", "running")


class Jobs:
    """The jobs of a cluster.

    Args:
        address: of Ray's dashboard, 'http://HOST:PORT'.

    Raises:
        UserError: nothing answers there, it wants a token, or it is another Ray.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(f"--address {address} is not the address of a Ray dashboard: http://HOST:PORT")
        for name in ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):  # Ray would prefer them to what was asked for
            os.environ.pop(name, None)
        with self._told():
            port = parts.port or (443 if parts.scheme == "https" else 80)
            socket.create_connection((parts.hostname, port), timeout=CONNECT_S).close()
            self._client = JobSubmissionClient(address)
            theirs = str(self._client._server_ray_version)
        if theirs.split(".")[:2] != ray.__version__.split(".")[:2]:
            raise UserError(
                f"the cluster at {address} runs Ray {theirs}, vjepa-exp {version('vjepa-exp')} needs "
                f"{ray.__version__}: build its image from this lock (docker/Dockerfile)"
            )

    def all(self) -> list[Job]:
        """Every job of ours that the cluster remembers, the first one first."""
        with self._told():
            found = self._client.list_jobs()
        ours = [_job(one) for one in found if one.submission_id and MARK in (one.metadata or {})]
        return sorted(ours, key=lambda job: job.began)

    def find(self, job_id: str) -> Job:
        """A job by its id.

        Raises:
            UserError: there is none.
        """
        jobs = {job.id: job for job in self.all()}
        if job_id not in jobs:
            known = f" Jobs: {', '.join(jobs)}" if jobs else " It has none of vjepa-exp"
            raise UserError(f"no job '{job_id}' on the cluster at {self._address}.{nearest(job_id, [*jobs])}{known}")
        return jobs[job_id]

    def submit(self, job_id: str, command: str, wheel: Path, files: Path, about: dict[str, str]) -> None:
        """Have the cluster start a driver.

        Args:
            job_id: that no job had yet.
            command: for a shell, in a folder that holds `files`.
            wheel: of the code, for the driver and for every process that it starts.
            files: a folder of small files.
            about: what `Job` tells of it.

        Raises:
            UserError: the cluster does not take it.
        """
        environment = {"working_dir": str(files), "py_modules": [str(wheel)], "env_vars": STOPPING}
        with self._told():
            self._client.submit_job(entrypoint=command, submission_id=job_id, runtime_env=environment, metadata=about)

    def log(self, job_id: str) -> str:
        """What the driver has written so far."""
        with self._told():
            return self._client.get_job_logs(job_id)

    def follow(self, job_id: str, write: Callable[[str], object]) -> None:
        """Pass on what the driver writes, from its first line to the end of the job."""

        async def pass_on() -> None:
            async for lines in self._client.tail_job_logs(job_id):
                write(lines)

        with self._told():
            asyncio.run(pass_on())

    def stop(self, job_id: str) -> None:
        """Ask a job to end; it has done so when its state says so."""
        with self._told():
            self._client.stop_job(job_id)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What goes wrong between here and the cluster, in a line that never holds a token."""
        try:
            yield
        except AuthenticationError:
            raise UserError(
                f"the cluster at {self._address} does not know who asks: set RAY_AUTH_MODE=token, with the cluster's "
                "token in ~/.ray/auth_token or RAY_AUTH_TOKEN"
            ) from None
        except OSError as error:  # those of requests are of its kind too
            reason = error.strerror or type(error).__name__
            raise UserError(
                f"no Ray dashboard answers at {self._address} ({reason}): open the way to it first (ray dashboard "
                "CLUSTER.yaml, kubectl port-forward), or name another: --address"
            ) from None
        except RuntimeError as error:
            raise UserError(f"the cluster at {self._address} refuses: {str(error).strip().splitlines()[-1]}") from None


def _job(details: JobDetails) -> Job:
    about: dict[str, Any] = details.metadata or {}
    state = STATES[str(details.status)]
    return Job(
        id=str(details.submission_id),
        state=state,
        began=(details.start_time or 0) / 1000,
        ended=details.end_time / 1000 if details.end_time else None,
        store=about.get("store", ""),
        spec=about.get("spec", ""),
        why=(details.message or "").strip().splitlines()[-1] if state == "failed" and details.message else "",
    )
