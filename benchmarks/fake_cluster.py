"""An autoscaling cluster of fake nodes on this machine: Ray's own autoscaler, real Ray nodes, made-up GPUs.

A head without GPUs; nodes of one kind, `GPU: 1` and `accelerator_type:A100: 1` in Ray's books alone, come when work
waits for them and go when they are idle. All of it is processes below one `ray start`, and `stop` ends those only.
(Ray's `AutoscalingCluster` ends every Ray on the machine, and the wheel lacks one of its files.)
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import yaml
from ray.util import get_node_ip_address

HEAD_ID = "f" * 51 + "00000"
HEAD_TYPE = "ray.head.default"  # known to the provider by this name
PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
NO_COMMANDS = (
    "cluster_synced_files",
    "rsync_exclude",
    "rsync_filter",
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)
WATCHER = "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"
"""Is off for a Ray that a run starts by itself, and on where nodes come and go."""
STORE_BYTES = 200_000_000
START_S = 300.0


@dataclass
class FakeCluster:
    """A running one.

    Attributes:
        folder: for its files.
        max_nodes: nodes besides the head, at most.
        node_cpus: CPUs of one, in Ray's books.
        idle_s: after which a node goes.
    """

    folder: Path
    max_nodes: int
    node_cpus: int = 2
    idle_s: float = 10.0
    address: str = ""
    _head: subprocess.Popen[bytes] | None = None
    _ray: TemporaryDirectory[str] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Of its processes and of those that talk to it: that of this one, whose token it asks for."""
        return {name: value for name, value in os.environ.items() if name != WATCHER}

    @property
    def spec(self) -> Path:
        """It as a file of `clusters/`, for `--cluster`."""
        gpu = {"accelerator": "A100", "gpu_memory_gb": 40, "gpus_per_node": 1, "max_nodes": self.max_nodes}
        body = {
            "name": "fake",
            "image": "registry.example.com/vjepa-exp:fake",
            "providers": {"kuberay": {}},
            "gpu": {**gpu, "cpus": self.node_cpus, "memory_gib": 4},
            "storage": {"uri": "nfs://localhost/fake"},
            "tracking": {"kind": "in_cluster"},
        }
        path = self.folder / "cluster.yaml"
        path.write_text(yaml.safe_dump(body), encoding="utf-8")
        return path

    def start(self) -> None:
        """Start the head and its autoscaler."""
        port = _free_port()
        self.address = f"{get_node_ip_address()}:{port}"
        config = self.folder / "autoscaling.json"
        config.write_text(json.dumps(self._config()), encoding="utf-8")
        environment = {
            **self.environment,
            "RAY_FAKE_CLUSTER": "1",
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
            "RAY_worker_niceness": "0",
        }
        self._ray = TemporaryDirectory(
            prefix="fake-", ignore_cleanup_errors=True
        )  # short: paths of sockets are bounded
        options = [
            f"--port={port}",
            f"--temp-dir={self._ray.name}",
            "--num-cpus=1",
            "--num-gpus=0",
            f"--object-store-memory={STORE_BYTES}",
            "--include-dashboard=true",
            "--dashboard-host=127.0.0.1",
            f"--dashboard-port={_free_port()}",
            f"--autoscaling-config={config}",
        ]
        log = self.folder / "head.log"
        with log.open("wb") as file:
            command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", *options]
            self._head = subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)
        deadline = time.monotonic() + START_S
        while "Ray runtime started" not in log.read_text(encoding="utf-8", errors="replace"):
            if self._head.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the head does not start:\n{log.read_text(encoding='utf-8', errors='replace')}")
            time.sleep(0.2)

    def nodes(self) -> list[psutil.Process]:
        """The process `raylet` of every node besides the head."""
        return [one for one in self._processes() if _name(one) == "raylet" and HEAD_ID not in _node_id(one)]

    def node_of(self, title: str) -> psutil.Process | None:
        """The `raylet` of a node on which a worker with such a title runs."""
        for raylet in self.nodes():
            if any(title in _name(one) for one in raylet.children(recursive=True)):
                return raylet
        return None

    def stop(self) -> None:
        """End every process that was started here, and no other."""
        if self._head is None:
            return
        processes = self._processes()
        self._head.send_signal(signal.SIGTERM)
        try:
            self._head.wait(30)
        except subprocess.TimeoutExpired:
            self._head.kill()
        for one in psutil.wait_procs(processes, timeout=10)[1]:
            one.kill()
        if self._ray is not None:
            self._ray.cleanup()

    def _processes(self) -> list[psutil.Process]:
        assert self._head is not None
        return psutil.Process(self._head.pid).children(recursive=True)

    def _config(self) -> dict[str, Any]:
        resources = {"CPU": self.node_cpus, "GPU": 1, "accelerator_type:A100": 1, "object_store_memory": STORE_BYTES}
        node = {"resources": resources, "node_config": {}, "min_workers": 0, "max_workers": self.max_nodes}
        return {
            "cluster_name": "fake",
            "max_workers": self.max_nodes,
            "idle_timeout_minutes": self.idle_s / 60,
            "upscaling_speed": 10.0,
            "head_node_type": HEAD_TYPE,
            "provider": {
                "type": "external",
                "module": PROVIDER,
                "gcs_address": self.address,
                "use_node_id_as_ip": True,
                "disable_node_updaters": True,
                "disable_launch_config_check": True,
                "launch_multiple": True,
                "head_node_id": HEAD_ID,
            },
            "available_node_types": {
                HEAD_TYPE: {"resources": {"CPU": 1}, "node_config": {}, "max_workers": 0},
                "a100": node,
            },
            **{name: {} for name in ("auth", "docker", "file_mounts")},
            "file_mounts_sync_continuously": False,
            **{name: [] for name in NO_COMMANDS},
        }


@contextmanager
def fake_cluster(folder: Path, max_nodes: int, **options: Any) -> Iterator[FakeCluster]:
    """One for the length of the block."""
    folder.mkdir(parents=True, exist_ok=True)
    cluster = FakeCluster(folder, max_nodes, **options)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("", 0))
        return int(one.getsockname()[1])


def _name(process: psutil.Process) -> str:
    try:
        return Path((process.cmdline() or [""])[0]).name
    except psutil.Error:
        return ""


def _node_id(process: psutil.Process) -> str:
    try:
        return process.environ().get("RAY_OVERRIDE_NODE_ID_FOR_TESTING", "")
    except psutil.Error:
        return ""
