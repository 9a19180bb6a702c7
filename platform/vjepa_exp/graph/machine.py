"""What the machine has, found out without torch; what a cluster can become, read from its file."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from vjepa_exp.spec.cluster import ClusterSpec

HERE = "here"


@dataclass(frozen=True)
class Gpu:
    """One CUDA device."""

    name: str
    memory_gb: float


@dataclass(frozen=True)
class Machine:
    """Cores, memory and GPUs that a run may use: those of this process, or those of a cluster when all nodes are up."""

    cpu: str
    cores: int
    memory_bytes: int
    gpus: tuple[Gpu, ...] = ()
    place: str = HERE
    """Where they are, in words."""

    def gpus_with(self, memory_gb: float) -> int:
        """Number of GPUs with at least so much memory."""
        return sum(gpu.memory_gb >= memory_gb for gpu in self.gpus)


@cache
def this_machine() -> Machine:
    """The machine that this process runs on; a container's limits count."""
    return Machine(_cpu_name(), _cores(), _memory_bytes(), _gpus())


def cluster_machine(spec: ClusterSpec) -> Machine:
    """What a cluster has when all its nodes are up, without the head: that one is not for the work."""
    groups = [spec.gpu] if spec.decode is None else [spec.gpu, spec.decode]
    return Machine(
        cpu=f"the cluster {spec.name}",
        cores=sum(group.max_nodes * group.cpus for group in groups),
        memory_bytes=sum(group.max_nodes * group.memory_gib for group in groups) * 2**30,
        gpus=(Gpu(spec.gpu.accelerator, spec.gpu.gpu_memory_gb),) * (spec.gpu.max_nodes * spec.gpu.gpus_per_node),
        place=f"on the cluster {spec.name}",
    )


def _cores() -> int:
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _first_line(Path("/sys/fs/cgroup/cpu.max")).partition(" ")
    if quota.isdigit() and period.isdigit():
        allowed = min(allowed, max(1, int(quota) // int(period)))
    return allowed


def _memory_bytes() -> int:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _first_line(Path("/sys/fs/cgroup/memory.max"))
    return min(total, int(limit)) if limit.isdigit() else total


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _gpus() -> tuple[Gpu, ...]:
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    rows = (line.rpartition(",") for line in done.stdout.splitlines() if done.returncode == 0)
    return tuple(Gpu(name.strip(), int(mib) / 1024) for name, _, mib in rows if mib.strip().isdigit())


def _first_line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").partition("\n")[0]
    except OSError:
        return ""
