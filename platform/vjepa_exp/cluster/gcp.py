"""`ray up` on GCP."""

from __future__ import annotations

from vjepa_exp.cluster.layout import Tree
from vjepa_exp.cluster.ray_up import DECODE, GPU, HEAD, gpu_resources, head_type, ray_up, worker_type
from vjepa_exp.spec.cluster import ClusterSpec, GcpSpec
from vjepa_exp.spec.machine_types import MachineType

ALL_SCOPES = "https://www.googleapis.com/auth/cloud-platform"
"""The roles of a service account say what it may do, its scopes need not."""


def gcp_cluster(spec: ClusterSpec) -> Tree:
    """The file that `ray up` takes; `spec` has a section for GCP."""
    gcp = spec.providers.gcp
    assert gcp is not None
    head = _node_config(gcp, spec.cpu_machine("gcp", "head"), spec.head.disk_gib)
    machine = spec.gpu_machine("gcp")
    config = _node_config(gcp, machine, spec.gpu.disk_gib, spot=spec.gpu.spot, gpus=True)
    types = {HEAD: head_type(head), GPU: worker_type(spec.gpu, machine, config, gpu_resources(spec))}
    if spec.decode is not None:
        machine = spec.cpu_machine("gcp", "decode")
        config = _node_config(gcp, machine, spec.decode.disk_gib, spot=spec.decode.spot)
        types[DECODE] = worker_type(spec.decode, machine, config)
    if gcp.worker_service_account is not None:
        account = {"email": gcp.worker_service_account, "scopes": [ALL_SCOPES]}
        for name in (name for name in types if name != HEAD):
            types[name]["node_config"]["serviceAccounts"] = [account]
    provider = {
        "type": "gcp",
        "project_id": gcp.project,
        "region": gcp.region,
        "availability_zone": gcp.zone,
    }
    return ray_up(spec, provider, gcp.ssh_user, types)


def _node_config(gcp: GcpSpec, machine: MachineType, disk_gib: int, *, spot: bool = False, gpus: bool = False) -> Tree:
    """What Compute Engine's instances.insert takes. The GPUs of an A2 or A3 machine belong to its type."""
    disk = {
        "boot": True,
        "autoDelete": True,
        "type": "PERSISTENT",
        "initializeParams": {
            "diskSizeGb": str(disk_gib),  # an int64 is a string in Google's JSON
            "diskType": f"projects/{gcp.project}/zones/{gcp.zone}/diskTypes/{machine.disk_type}",
            "sourceImage": gcp.machine_image,
        },
    }
    config: Tree = {"machineType": machine.name, "disks": [disk]}
    scheduling: Tree = {}
    if gpus:  # which cannot move to another host
        scheduling |= {"onHostMaintenance": "TERMINATE"}
    if spot:
        scheduling |= {"provisioningModel": "SPOT", "instanceTerminationAction": "DELETE"}
    if scheduling:
        config["scheduling"] = scheduling
    return config
