"""Cluster files: what is refused, and that the line is named where it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from vjepa_exp.spec.cluster import read_cluster
from vjepa_exp.spec.errors import SpecError

AWS = """\
name: team
image: registry.example.com/vjepa-exp:0.1.0
providers:
  aws: {region: us-east-1, zones: [us-east-1a], machine_image: ami-1}
gpu:
  accelerator: A100
  gpu_memory_gb: 40
  gpus_per_node: 8
  cpus: 96
  memory_gib: 1000
  max_nodes: 4
storage: {uri: "nfs://10.0.0.2/share"}
tracking: {kind: external, uri: "https://mlflow.example.com"}
"""


def cluster(tmp_path: Path, *changes: tuple[str, str]) -> Path:
    text = AWS
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    file = tmp_path / "team.yaml"
    file.write_text(text)
    return file


def test_a_cluster_names_its_providers_and_machines(tmp_path: Path) -> None:
    spec, providers = read_cluster(cluster(tmp_path))
    assert providers == ["aws"]
    assert spec.gpu_machine("aws").name == "p4d.24xlarge"
    assert spec.cpu_machine("aws", "head").name == "m7i.2xlarge"
    assert spec.gpu.min_nodes == 0


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("max_nodes: 4", "max_nodes: 4\n  min_node: 1", 12, "Did you mean 'min_nodes'?"),
        ("name: team", "name: Team_A", 1, "name: 'Team_A' should be at most 40 of a-z"),
        (":0.1.0", "", 2, "image: 'registry.example.com/vjepa-exp' should be a container image with a tag"),
        (":0.1.0", ":latest", 2, "a tag other than 'latest'"),
        ("accelerator: A100", "accelerator: A10", 6, "Did you mean 'A100'?"),
        ("accelerator: A100", "accelerator: H100", 7, "gpu.gpu_memory_gb: 40 is no size of an H100: 80"),
        ("gpus_per_node: 8", "gpus_per_node: 4", 8, "gpu.gpus_per_node: a machine of aws has 8 A100 of 40 GB, not 4"),
        ("gpus_per_node: 8", "gpus_per_node: 3", 8, "3 is not one of 1, 2, 4 or 8"),
        ("cpus: 96", "cpus: 97", 9, "gpu.cpus: 97 is more than the 96 of p4d.24xlarge"),
        ("memory_gib: 1000", "memory_gib: 1153", 10, "gpu.memory_gib: 1153 is more than the 1152 of p4d.24xlarge"),
        ("max_nodes: 4", "max_nodes: 4\n  min_nodes: 5", 12, "gpu.min_nodes: 5 is more than max_nodes 4"),
        (
            "max_nodes: 4",
            "max_nodes: 4\nhead: {cpus: 400}",
            12,
            "head.cpus: 400 with 32 GiB is more than aws sells",
        ),
        ("[us-east-1a]", "[us-east-1a, us-west-2a]", 4, "zones.1: us-west-2a is not in region us-east-1"),
        ("nfs://10.0.0.2/share", "s3://bucket/runs", 12, "results are kept on a shared disk, not yet in a bucket"),
        ("nfs://10.0.0.2/share", "pvc://runs", 12, "storage.uri: pvc://runs is for Kubernetes alone; aws needs nfs://"),
        ("https://mlflow", "https://me:word@mlflow", 13, "without a password"),
        ("kind: external", "kind: server", 13, "kind 'server' is not one of"),
        ("tracking:", "environment: {HF_TOKEN: abc}\ntracking:", 13, "environment.HF_TOKEN: looks like a secret"),
        ("tracking:", "environment: {N: 1}\ntracking:", 13, "should be a valid string, not 1"),
        ("  aws: {", "  awz: {", 4, "Did you mean 'aws'?"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(tmp_path: Path, old: str, new: str, line: int, words: str) -> None:
    file = cluster(tmp_path, (old, new))
    with pytest.raises(SpecError) as caught:
        read_cluster(file)
    [text] = str(caught.value).splitlines()
    assert text.startswith(f"{file}:{line}: ")
    assert words in text


def test_a_cluster_without_the_provider_says_which_it_has(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"team.yaml:3: providers: has no section 'gcp', only aws"):
        read_cluster(cluster(tmp_path), "gcp")


def test_spot_pods_need_the_labels_of_spot_nodes(tmp_path: Path) -> None:
    changes = (("  aws: {region: us-east-1, zones: [us-east-1a], machine_image: ami-1}", "  kuberay: {}"),)
    read_cluster(cluster(tmp_path, *changes))
    with pytest.raises(SpecError, match=r"gpu\.spot: needs providers.kuberay.spot_nodes"):
        read_cluster(cluster(tmp_path, *changes, ("max_nodes: 4", "max_nodes: 4\n  spot: true")))
