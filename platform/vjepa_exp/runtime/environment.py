"""The environment of Ray and its processes. Ray reads a part of it when it is imported: call `prepare` before that."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

START_TIMEOUT = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    # Reports are paced by this poll, and so is the end of every stage.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    # A machine that is busy with other work is slow, not broken.
    START_TIMEOUT: "300",
    # Ctrl-C ends the run at once: what Tune would save on the way is in the store anyway.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
}


def prepare(address: str | None, verbose: bool) -> None:
    """Set what the user has not set.

    A Ray that is started here asks for a token that only this run's processes know; the token of a cluster is the
    user's.
    """
    settings = dict(SETTINGS)
    if not verbose:
        # What Ray's daemons say to the driver on their own, retries and advice: failures are told by us.
        settings |= {"RAY_DEDUP_LOGS_SKIP_REGEX": "."}
        if address is None:
            # Whoever would show them need not look for new log files ten times a second.
            settings |= {"RAY_LOG_MONITOR_MANY_FILES_THRESHOLD": "0", "LOG_NAME_UPDATE_INTERVAL_S": "86400"}
    if address is None:
        # A process less per stage: nobody takes this machine away with a notice.
        settings |= {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}
        # Statistics that every process of Ray counts and sends on, and that nobody reads here.
        settings |= {
            "RAY_event_stats": "0",
            "RAY_enable_metrics_collection": "0",
            "REPORTER_UPDATE_INTERVAL_MS": "60000",
            "METRICS_RECORD_INTERVAL_S": "86400",
        }
        # Ray's default of 15 gives training what every other program leaves over.
        settings |= {"RAY_worker_niceness": "0"}
        settings |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        # Ray's switch for systems whose firewall asks about every port: all its processes listen on loopback alone.
        settings |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
        # So do the workers of a training, which would take the interface of the machine's name.
        settings |= {"GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo"}
    os.environ.update({name: value for name, value in settings.items() if name not in os.environ})


def of_the_cluster() -> dict[str, str]:
    """What processes on a cluster need of it: its nodes were started by others."""
    return {name: os.environ[name] for name in SETTINGS if name in os.environ}


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits for the end of the block.

    For imports: numpy and others that were imported by half cannot be imported again, and the thread that talks to
    MLflow needs them to close its runs.
    """
    if threading.current_thread() is not threading.main_thread():  # no signal comes there
        yield
        return
    pressed = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: pressed.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed.is_set():
        raise KeyboardInterrupt
