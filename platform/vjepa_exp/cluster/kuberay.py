"""RayCluster and RayJob of KubeRay, with Ray's own autoscaler. Checked by Ray's reader of them in `runtime.cluster`."""

from __future__ import annotations

from vjepa_exp.cluster.kube_mlflow import client_variables, server_uri
from vjepa_exp.cluster.layout import HEAD_CPUS, Tree, run_command
from vjepa_exp.cluster.pods import container_security, pod_security, resources, shared_volume, shared_volume_mount
from vjepa_exp.spec.cluster import ClusterSpec, DecodeGroup, GpuGroup, KubeRaySpec

API = "ray.io/v1"
TRIES = 2
"""Times that a job whose driver was lost begins anew, on nodes of its own; what is in the store is not done again."""

KEPT_S = 600
"""How long the nodes of a finished job stay for somebody to look at them."""


def ray_cluster(spec: ClusterSpec, ray_version: str) -> Tree:
    """A RayCluster that stays."""
    return {
        "apiVersion": API,
        "kind": "RayCluster",
        "metadata": {"name": spec.name, "namespace": kube(spec).namespace},
        "spec": cluster_spec(spec, ray_version),
    }


def ray_job(spec: ClusterSpec, ray_version: str, experiment: str) -> Tree:
    """A RayJob: a cluster for one run of one experiment, gone when it is done."""
    return {
        "apiVersion": API,
        "kind": "RayJob",
        "metadata": {"name": f"{spec.name}-job", "namespace": kube(spec).namespace},
        "spec": {
            "entrypoint": run_command(spec, experiment, server_uri(spec)),
            "submissionMode": "K8sJobMode",
            "backoffLimit": TRIES,
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": KEPT_S,
            "rayClusterSpec": cluster_spec(spec, ray_version),
        },
    }


def kube(spec: ClusterSpec) -> KubeRaySpec:
    """The section for Kubernetes, which `spec` has."""
    assert spec.providers.kuberay is not None
    return spec.providers.kuberay


def cluster_spec(spec: ClusterSpec, ray_version: str) -> Tree:
    """What RayCluster and RayJob share. `authOptions` makes the operator hand every node one token."""
    groups = [_gpu_group(spec), *([] if spec.decode is None else [_decode_group(spec, spec.decode)])]
    return {
        "rayVersion": ray_version,
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {
            "version": "v2",
            "idleTimeoutSeconds": round(60 * spec.idle_timeout_minutes),
            "upscalingMode": "Default",
        },
        "authOptions": {"mode": "token"},
        "headGroupSpec": {
            "serviceType": "ClusterIP",
            "rayStartParams": {"num-cpus": str(HEAD_CPUS)},
            "template": _head_pod(spec),
        },
        "workerGroupSpecs": groups,
    }


def _head_pod(spec: ClusterSpec) -> Tree:
    pod = _pod(spec, "ray-head", resources(spec.head.cpus, spec.head.memory_gib, spec.head.disk_gib))
    pod["spec"]["containers"][0]["env"] += client_variables(spec)
    return pod


def _gpu_group(spec: ClusterSpec) -> Tree:
    """The GPU pods. The autoscaler has to be told the accelerator: pods without a node yet cannot show it."""
    section, group = kube(spec), spec.gpu
    pod = _worker_pod(spec, group, section.gpu_nodes, {"nvidia.com/gpu": str(group.gpus_per_node)})
    offered = {
        "CPU": str(group.cpus),
        "GPU": str(group.gpus_per_node),
        f"accelerator_type:{group.accelerator}": "1",
    }
    return {**_group("gpu", group), "resources": offered, "template": pod}


def _decode_group(spec: ClusterSpec, group: DecodeGroup) -> Tree:
    return {**_group("decode", group), "template": _worker_pod(spec, group, kube(spec).decode_nodes, {})}


def _group(name: str, group: DecodeGroup) -> Tree:
    return {
        "groupName": name,
        "replicas": group.min_nodes,
        "minReplicas": group.min_nodes,
        "maxReplicas": group.max_nodes,
        "rayStartParams": {},
    }


def _worker_pod(spec: ClusterSpec, group: DecodeGroup, nodes: dict[str, str], devices: dict[str, str]) -> Tree:
    spot = kube(spec).spot_nodes if group.spot else {}
    pod = _pod(spec, "ray-worker", resources(group.cpus, group.memory_gib, group.disk_gib, devices))
    pod["spec"]["automountServiceAccountToken"] = False  # only the head's autoscaler asks Kubernetes for anything
    if kube(spec).worker_service_account is not None:
        pod["spec"]["serviceAccountName"] = kube(spec).worker_service_account
    if selector := {**nodes, **spot}:
        pod["spec"]["nodeSelector"] = selector
    tolerated = [
        {"key": key, "operator": "Equal", "value": value, "effect": "NoSchedule"} for key, value in spot.items()
    ]
    if isinstance(group, GpuGroup):
        tolerated.insert(0, {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"})
    if tolerated:
        pod["spec"]["tolerations"] = tolerated
    return pod


def _pod(spec: ClusterSpec, name: str, needs: Tree) -> Tree:
    """A pod of Ray. It never restarts in place: autoscaler v2 counts a pod as a node that comes and goes once."""
    container = {
        "name": name,
        "image": spec.image,
        "env": [{"name": variable, "value": value} for variable, value in spec.environment.items()],
        "resources": needs,
        "volumeMounts": [shared_volume_mount(spec)],
        "securityContext": container_security(),
    }
    return {
        "spec": {
            "restartPolicy": "Never",
            "securityContext": pod_security(),
            "containers": [container],
            "volumes": [shared_volume(spec)],
        }
    }
