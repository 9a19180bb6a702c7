"""The YAML of `ray up`: what AWS and GCP share. Checked against Ray's own schema by `runtime.cluster`."""

from __future__ import annotations

import shlex

from vjepa_exp.cluster.head_mlflow import CLIENT_OPTIONS, head_mlflow_commands
from vjepa_exp.cluster.layout import (
    GCS_PORT,
    HEAD_CPUS,
    OBJECTS_PORT,
    TOKEN_MODE,
    USER_ID,
    Tree,
    nfs_export,
    store_folder,
)
from vjepa_exp.spec.cluster import ClusterSpec, DecodeGroup, InClusterTracking
from vjepa_exp.spec.machine_types import MachineType

HEAD, GPU, DECODE = "head", "gpu", "decode"
TOKEN_FILE = "~/.ray/auth_token"


def ray_up(spec: ClusterSpec, provider: Tree, ssh_user: str, node_types: Tree) -> Tree:
    """A whole file for `ray up`.

    Nothing is installed on a node: all is in the image. The dashboard listens on the head's loopback interface; the
    other ports of Ray are open between the nodes and ask for the token.
    """
    mount = mount_commands(spec)
    ours = isinstance(spec.tracking, InClusterTracking)
    on_head = head_mlflow_commands(spec) if ours else []
    start = f"ulimit -n 65536; ray start --object-manager-port={OBJECTS_PORT}"
    workers = [name for name in node_types if name != HEAD]
    return {
        "cluster_name": spec.name,
        "max_workers": sum(node_types[name]["max_workers"] for name in workers),
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": spec.idle_timeout_minutes,
        "provider": provider,
        "auth": {"ssh_user": ssh_user},
        "docker": {
            "image": spec.image,
            "container_name": "vjepa-exp",
            "pull_before_run": True,
            "run_options": _run_options(spec),
            "head_run_options": CLIENT_OPTIONS if ours else [],
        },
        "head_node_type": HEAD,
        # Commands of a node type replace those of the file, which are then the head's alone.
        "available_node_types": {
            name: node_type if name == HEAD else {**node_type, "initialization_commands": mount}
            for name, node_type in node_types.items()
        },
        "file_mounts": {TOKEN_FILE: TOKEN_FILE},
        "initialization_commands": [*mount, *on_head],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [
            "ray stop",
            f"{start} --head --port={GCS_PORT} --dashboard-host=127.0.0.1 "
            "--autoscaling-config=~/ray_bootstrap_config.yaml",
        ],
        "worker_start_ray_commands": ["ray stop", f"{start} --address=$RAY_HEAD_IP:{GCS_PORT}"],
    }


def head_type(node_config: Tree) -> Tree:
    """The node type of the head."""
    return {"resources": {"CPU": HEAD_CPUS}, "node_config": node_config, "min_workers": 0, "max_workers": 0}


def worker_type(group: DecodeGroup, machine: MachineType, node_config: Tree, gpus: Tree | None = None) -> Tree:
    """The node type of a group. Its resources are written out: a group has to be known before its first node is up."""
    return {
        "resources": {"CPU": machine.cpus, **(gpus or {})},
        "node_config": node_config,
        "min_workers": group.min_nodes,
        "max_workers": group.max_nodes,
    }


def gpu_resources(spec: ClusterSpec) -> dict[str, int]:
    """What a GPU node offers; `accelerator_type="A100"` of a task is a wish for a share of the second."""
    return {"GPU": spec.gpu.gpus_per_node, f"accelerator_type:{spec.gpu.accelerator}": 1}


def mount_commands(spec: ClusterSpec) -> list[str]:
    """Mount the shared disk on a node, before its container starts; nothing happens where it is mounted."""
    export = nfs_export(spec)
    if export is None:
        raise ValueError(f"{spec.storage.uri} cannot be mounted outside Kubernetes")  # the spec refuses it
    source, mount = shlex.quote(":".join(export)), spec.storage.mount
    client = "command -v mount.nfs > /dev/null || (sudo apt-get update && sudo apt-get install -y nfs-common)"
    return [
        client,
        f"sudo mkdir -p {mount} && (mountpoint -q {mount} || sudo mount -t nfs -o hard,noresvport {source} {mount})",
        f"sudo install -d -o {USER_ID} -g {USER_ID} {store_folder(spec)}",
    ]


def _run_options(spec: ClusterSpec) -> list[str]:
    variables = {**spec.environment, **TOKEN_MODE}
    passed = [f"-e {shlex.quote(f'{name}={value}')}" for name, value in variables.items()]
    return ["--ulimit nofile=65536:65536", f"-v {spec.storage.mount}:{spec.storage.mount}", *passed]
