"""Ray that does not start, or dies, is one clear line."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

from vjepa_exp.runtime.session import ray_session
from vjepa_exp.spec.errors import UserError

CODE = """
from vjepa_exp.runtime.environment import prepare
prepare(None, verbose=False)
from vjepa_exp.runtime.session import ray_session
from vjepa_exp.spec.errors import UserError
try:
    with ray_session(None, cpus=1, gpus=0):
        print("it started")
except UserError as error:
    print(error)
"""

KILLED = """
from vjepa_exp.runtime.environment import prepare
prepare(None, verbose=False)
import time
import psutil
import ray
from vjepa_exp.runtime.session import ray_session
from vjepa_exp.spec.errors import UserError
try:
    with ray_session(None, cpus=1, gpus=0, dashboard=False):
        next(one for one in psutil.Process().children() if one.name() == "raylet").kill()
        ray.get(ray.remote(lambda: time.sleep(600)).remote())
except UserError as error:
    print(error)
"""

STOPPED = """
from vjepa_exp.runtime.environment import prepare
prepare(None, verbose=False)
import os
import signal
import time
import ray
from vjepa_exp.runtime.session import ray_session
try:
    with ray_session(None, cpus=1, gpus=0, dashboard=False):
        os.kill(os.getpid(), signal.SIGTERM)
        ray.get(ray.remote(lambda: time.sleep(600)).remote())
except KeyboardInterrupt:
    print("stopped")
"""

HANGS = """
from vjepa_exp.runtime.environment import prepare
prepare(None, verbose=False)
import atexit
import os
import time
import psutil
import ray
from vjepa_exp.runtime import session
session.ENDS_S = 2.0

@ray.remote(num_cpus=0)
class Actor:
    def pid(self):
        atexit.register(time.sleep, 600)
        return os.getpid()

with session.ray_session(None, cpus=1, gpus=0, dashboard=False):
    actor = Actor.remote()
    pid = ray.get(actor.pid.remote())
    actor.__ray_terminate__.remote()
    time.sleep(3)
    assert psutil.pid_exists(pid)
print(pid)
"""


def test_ray_that_cannot_start_here_is_the_users_to_mend() -> None:
    environment = {**os.environ, "RAY_TMPDIR": "/dev/null"}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Ray does not start on this machine")
    assert "/dev/null/ray" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:99999", "no.such.host.invalid:6379"]
)
def test_a_cluster_that_is_not_there_is_said_at_once(address: str) -> None:
    with pytest.raises(UserError, match=f"nothing answers at {address} ") as caught, ray_session(address, 1, 0):
        pass
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.ray
def test_a_run_whose_ray_dies_ends() -> None:
    done = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, check=True, timeout=240)
    assert done.stdout.startswith("Ray on this machine died")
    assert "Traceback" not in done.stderr


@pytest.mark.ray
def test_sigterm_is_ctrl_c() -> None:
    done = subprocess.run([sys.executable, "-c", STOPPED], capture_output=True, text=True, check=True, timeout=120)
    assert (done.stdout, done.stderr) == ("stopped\n", "")


@pytest.mark.ray
def test_no_process_is_left_that_does_not_end_by_itself() -> None:
    done = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, check=True)
    assert not psutil.pid_exists(int(done.stdout))
