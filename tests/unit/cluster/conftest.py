"""One cluster that has a section for every provider."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from vjepa_exp.cluster.layout import Tree
from vjepa_exp.cluster.render import render
from vjepa_exp.spec.cluster import Provider, read_cluster

EVERYWHERE = """
name: team
image: registry.example.com/team/vjepa-exp:0.1.0
providers:
  aws: {region: us-east-1, zones: [us-east-1a, us-east-1b], machine_image: ami-0123456789abcdef0}
  gcp: {project: my-project, region: us-central1, zone: us-central1-a, machine_image: projects/p/global/images/i}
  kuberay:
    namespace: research
    gpu_nodes: {cloud.google.com/gke-accelerator: nvidia-tesla-a100}
    spot_nodes: {cloud.google.com/gke-spot: "true"}
head: {cpus: 8, memory_gib: 32}
gpu: {accelerator: A100, gpu_memory_gb: 80, gpus_per_node: 8, cpus: 80, memory_gib: 900, max_nodes: 4, spot: true}
decode: {cpus: 40, memory_gib: 72, min_nodes: 1, max_nodes: 6}
idle_timeout_minutes: 7.5
storage: {uri: "nfs://10.0.0.2/share", mount: /mnt/vjepa}
tracking: {kind: in_cluster, secret: our-postgres}
environment: {NCCL_DEBUG: INFO, GREETING: it's "me"}
"""


@pytest.fixture
def cluster_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a cluster file; arguments replace what stands at 'a.b', and None removes it."""

    def write(changes: dict[str, Any] | None = None) -> Path:
        data = yaml.safe_load(EVERYWHERE)
        for path, value in (changes or {}).items():
            *parents, last = path.split(".")
            inside = data
            for key in parents:
                inside = inside.setdefault(key, {})
            if value is None:
                inside.pop(last, None)
            else:
                inside[last] = value
        file = tmp_path / "team.yaml"
        file.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
        return file

    return write


@pytest.fixture
def rendered(cluster_file: Callable[..., Path]) -> Callable[..., dict[str, list[Tree]]]:
    """Renders that cluster, changed as `cluster_file` does it."""

    def call(provider: Provider, changes: dict[str, Any] | None = None) -> dict[str, list[Tree]]:
        spec, _ = read_cluster(cluster_file(changes), provider)
        return render(spec, provider, "table4_masking", "2.60.0")

    return call
