"""A cluster spec as files for one provider."""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from vjepa_exp.cluster.aws import aws_cluster
from vjepa_exp.cluster.gcp import gcp_cluster
from vjepa_exp.cluster.kube_mlflow import mlflow_objects
from vjepa_exp.cluster.kuberay import ray_cluster, ray_job
from vjepa_exp.cluster.layout import Tree
from vjepa_exp.spec.cluster import ClusterSpec, InClusterTracking, Provider

HEADER = "# Written by `vjepa-exp cluster render`: change the cluster's YAML and render again. Holds no secret.\n"


def render(spec: ClusterSpec, provider: Provider, experiment: str, ray_version: str) -> dict[str, list[Tree]]:
    """The YAML documents of each file, by the file's name.

    Args:
        spec: the cluster, with a section for `provider`.
        provider: what the files are for.
        experiment: what a RayJob runs.
        ray_version: of Ray in the image, which is that of the lock.
    """
    if provider == "aws":
        return {f"{spec.name}.aws.yaml": [aws_cluster(spec)]}
    if provider == "gcp":
        return {f"{spec.name}.gcp.yaml": [gcp_cluster(spec)]}
    files = {
        f"{spec.name}.raycluster.yaml": [ray_cluster(spec, ray_version)],
        f"{spec.name}.rayjob.yaml": [ray_job(spec, ray_version, experiment)],
    }
    if isinstance(spec.tracking, InClusterTracking):
        files[f"{spec.name}.mlflow.yaml"] = mlflow_objects(spec)
    return files


def as_yaml(documents: Sequence[Tree]) -> str:
    """The text of a file."""
    return HEADER + yaml.dump_all(documents, Dumper=_Plain, sort_keys=False, width=120, allow_unicode=True)


class _Plain(yaml.SafeDumper):
    """Writes what occurs twice twice: anchors are for no reader."""

    def ignore_aliases(self, data: object) -> bool:
        return True
