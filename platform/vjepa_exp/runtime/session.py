"""Ray for the length of a run: started on this machine and stopped again, or joined where a cluster is named."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress

import psutil
import ray
from ray._private.state import state as ray_state

from vjepa_exp.graph.machine import Gpu, Machine
from vjepa_exp.runtime.environment import of_the_cluster
from vjepa_exp.spec.errors import UserError

OBJECT_STORE_BYTES = 2**30
START_ATTEMPTS = 2
"""Ray gives its processes 30 seconds to be there, which a busy machine may need for half of them."""
ANSWER_S = 10.0
WATCH_S = 1.0
ENDS_S = 10.0
LOST_SIGNAL = signal.SIGUSR2
"""Not SIGUSR1: Tune takes that for itself and ends its experiment without a word."""


@contextmanager
def ray_session(
    address: str | None, cpus: int, gpus: int, verbose: bool = False, *, dashboard: bool = True
) -> Iterator[None]:
    """Ray, running inside the `with` block.

    A local Ray declares the CPUs that the run asks for, not those of the machine: they only keep count, and a stage
    that waits for a CPU that its own helpers hold would wait for ever.

    Args:
        address: of a cluster; None starts Ray here.
        cpus: logical CPUs that a Ray which is started here declares.
        gpus: GPUs that it declares.
        verbose: show Ray's own messages.
        dashboard: start its processes too; without its State API, Train inside Tune leaks placement groups.

    Raises:
        UserError: Ray does not start here, or there is no cluster at `address`.
    """
    if ray.is_initialized():  # whoever started it, ends it
        yield
        return
    if not verbose:
        _silence()
    level = logging.INFO if verbose else logging.CRITICAL
    if address is None:
        _start(cpus, gpus, verbose, level, dashboard)
    else:
        _join(address, verbose, level)
    try:
        with _stopped_by_sigterm(), _watched() if address is None else nullcontext():
            yield
    finally:
        own = _processes() if address is None else []
        ray.shutdown()
        _end(own)


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """SIGTERM (a batch system, a pod that is stopped) is Ctrl-C; Ray would abort the process with a dump."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _processes() -> list[psutil.Process]:
    """Those of the Ray that was started here."""
    try:
        return [one for child in psutil.Process().children() if child.name() == "raylet" for one in child.children()]
    except psutil.NoSuchProcess:
        return []


def _end(processes: list[psutil.Process]) -> None:
    """End those that Ray has not ended: rarely one hangs in Ray's own exit handler, and would stay for good."""
    left = psutil.wait_procs(processes, timeout=ENDS_S)[1]
    for one in left:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(left, timeout=ENDS_S)


class _NodeLost(BaseException):
    """Passes through whatever Ray does meanwhile, as Ctrl-C does."""


@contextmanager
def _watched() -> Iterator[None]:
    """Ends the block when the node of a Ray that was started here dies: Ray would wait for another one for ever.

    Raises:
        UserError: it died.
    """
    raylet = next((one for one in psutil.Process().children() if one.name() == "raylet"), None)
    if raylet is None or threading.current_thread() is not threading.main_thread():  # no signal comes there
        yield
        return
    done, gone = threading.Event(), False

    def watch() -> None:
        while not done.wait(WATCH_S):
            if _gone(raylet):
                os.kill(os.getpid(), LOST_SIGNAL)

    def lost(*_: object) -> None:
        nonlocal gone
        gone = True  # not an Event: its lock may be held by the very code that the signal interrupts
        if not done.is_set():  # again and again, should something swallow it
            raise _NodeLost

    before = signal.signal(LOST_SIGNAL, lost)
    watcher = threading.Thread(target=watch, name="ray's node", daemon=True)
    watcher.start()
    try:
        yield
    except BaseException:  # Ray may have made a SystemError of it
        done.set()
        if not gone:
            raise
        raise UserError(
            "Ray on this machine died (its process 'raylet'; perhaps the machine ran out of memory). "
            "What is done is kept, continue with: vjepa-exp resume"
        ) from None
    finally:
        done.set()
        watcher.join()
        signal.signal(LOST_SIGNAL, before)


def _gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _start(cpus: int, gpus: int, verbose: bool, level: int, dashboard: bool) -> None:
    for attempt in range(1, START_ATTEMPTS + 1):
        try:
            ray.init(
                address="local",
                num_cpus=cpus,
                num_gpus=gpus,
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=dashboard,
                dashboard_host="127.0.0.1",
                log_to_driver=verbose,
                logging_level=level,
            )
        except Exception as error:  # what Ray raises where a process of it is not up in time has no class of its own
            ray.shutdown()
            if attempt == START_ATTEMPTS:
                raise UserError(_not_started(error)) from error
        else:
            return


def _not_started(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    reason = " ... ".join(dict.fromkeys((lines[0], lines[-1])))  # the last one is that of the process which failed
    return f"Ray does not start on this machine, perhaps because it is busy: try again, or see more with -v ({reason})"


def _join(address: str, verbose: bool, level: int) -> None:
    _require_answer(address)
    try:
        environment = {"env_vars": of_the_cluster()}
        ray.init(address=address, runtime_env=environment, log_to_driver=verbose, logging_level=level)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(f"no Ray cluster at {address}: {str(error).splitlines()[0]}") from None


def _require_answer(address: str) -> None:
    """Ray itself would try for many minutes, without a word."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():  # "auto"
        return
    try:
        socket.create_connection((host, int(port)), ANSWER_S).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"nothing answers at {address} ({reason}): is the cluster up, and is this the address of its head?"
        ) from None


def can_become() -> dict[str, int] | None:
    """What the cluster that was joined has when all nodes are up, by resource; None: no autoscaler has told Ray."""
    return ray_state.get_max_resources_from_cluster_config()


def offered(address: str) -> Machine:
    """What the cluster that was joined has, or can become where Ray knows.

    Raises:
        UserError: it has no CPU and never gets one.
    """
    can, has = can_become() or {}, ray.cluster_resources()
    most = {name: max(can.get(name, 0), has.get(name, 0)) for name in ("CPU", "GPU", "memory")}
    if most["CPU"] < 1:
        raise UserError(f"the Ray cluster at {address} has no CPUs, and no autoscaler that would bring some")
    memory = int(most["memory"]) if not can else 2**60  # node types need not state it
    place = f"on the Ray cluster at {address}"
    return Machine(place.removeprefix("on "), int(most["CPU"]), memory, (Gpu("", 0.0),) * int(most["GPU"]), place)


def _silence() -> None:
    for name in ("ray", "ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # failures are told by us, in a line each
    warnings.filterwarnings("ignore", module=r"ray\..*")
