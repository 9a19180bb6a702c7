"""Machine types of AWS and GCP that a cluster is made of: pure data, from the providers' own tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vjepa_exp.spec.execution import GpuName

Cloud = Literal["aws", "gcp"]

GPU_MEMORY_GB: dict[GpuName, tuple[int, ...]] = {"A100": (40, 80), "H100": (80,), "H200": (141,)}
"""Memory that a GPU of this name is sold with."""


@dataclass(frozen=True)
class MachineType:
    """What a provider sells under one name."""

    name: str
    cpus: int
    memory_gib: int
    disk_type: str
    """Of the boot disk: newer machines take only the newer ones."""


_GPU: dict[tuple[Cloud, GpuName, int, int], MachineType] = {
    ("aws", "A100", 40, 8): MachineType("p4d.24xlarge", 96, 1152, "gp3"),
    ("aws", "A100", 80, 8): MachineType("p4de.24xlarge", 96, 1152, "gp3"),
    ("aws", "H100", 80, 8): MachineType("p5.48xlarge", 192, 2048, "gp3"),
    ("aws", "H200", 141, 8): MachineType("p5en.48xlarge", 192, 2048, "gp3"),
    **{("gcp", "A100", 40, n): MachineType(f"a2-highgpu-{n}g", 12 * n, 85 * n, "pd-balanced") for n in (1, 2, 4, 8)},
    **{("gcp", "A100", 80, n): MachineType(f"a2-ultragpu-{n}g", 12 * n, 170 * n, "pd-balanced") for n in (1, 2, 4, 8)},
    **{("gcp", "H100", 80, n): MachineType(f"a3-highgpu-{n}g", 26 * n, 234 * n, "pd-balanced") for n in (1, 2, 4, 8)},
    ("gcp", "H200", 141, 8): MachineType("a3-ultragpu-8g", 224, 2952, "hyperdisk-balanced"),
}

_M7I = {"large": 2, "xlarge": 4, "2xlarge": 8, "4xlarge": 16, "8xlarge": 32, "12xlarge": 48, "16xlarge": 64}
_C3 = (4, 8, 22, 44, 88, 176)

_CPU: dict[Cloud, list[MachineType]] = {
    "aws": [
        MachineType(f"m7i.{size}", cpus, 4 * cpus, "gp3")
        for size, cpus in {**_M7I, "24xlarge": 96, "48xlarge": 192}.items()
    ],
    "gcp": [
        MachineType(f"c3-{family}-{cpus}", cpus, gib * cpus, "pd-balanced")
        for cpus in _C3
        for family, gib in (("highcpu", 2), ("standard", 4))
    ],
}
"""Smallest first, as the choice takes the first that is large enough."""


def gpu_machine(cloud: Cloud, gpu: GpuName, memory_gb: int, count: int) -> MachineType | None:
    """The machine with exactly so many of these GPUs, None where the provider sells none."""
    return _GPU.get((cloud, gpu, memory_gb, count))


def gpu_counts(cloud: Cloud, gpu: GpuName, memory_gb: int) -> list[int]:
    """How many of these GPUs the provider's machines hold."""
    return sorted(key[3] for key in _GPU if key[:3] == (cloud, gpu, memory_gb))


def cpu_machine(cloud: Cloud, cpus: int, memory_gib: int) -> MachineType | None:
    """The smallest machine with at least so many cores and so much memory, None where there is none."""
    fits = (one for one in _CPU[cloud] if one.cpus >= cpus and one.memory_gib >= memory_gib)
    return next(fits, None)
