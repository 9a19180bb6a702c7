"""Parts of pods: the shared disk, resources, what a process may do."""

from __future__ import annotations

from vjepa_exp.cluster.layout import USER_ID, Tree, nfs_export
from vjepa_exp.spec.cluster import ClusterSpec

SHARED = "shared"


def resources(cpus: int, memory_gib: int, disk_gib: int | None, devices: dict[str, str] | None = None) -> Tree:
    """Requests and limits, which are the same: nobody lives on what a neighbour does not use."""
    amounts = {"cpu": str(cpus), "memory": f"{memory_gib}Gi", **(devices or {})}
    if disk_gib is not None:
        amounts["ephemeral-storage"] = f"{disk_gib}Gi"
    return {"requests": dict(amounts), "limits": amounts}


def shared_volume(spec: ClusterSpec) -> Tree:
    """The shared disk."""
    export = nfs_export(spec)
    if export is None:
        return {"name": SHARED, "persistentVolumeClaim": {"claimName": spec.storage.uri.removeprefix("pvc://")}}
    return {"name": SHARED, "nfs": {"server": export[0], "path": export[1]}}


def shared_volume_mount(spec: ClusterSpec) -> Tree:
    """Where a container sees it."""
    return {"name": SHARED, "mountPath": spec.storage.mount}


def pod_security(user: int = USER_ID) -> Tree:
    """No process of the pod is root."""
    return {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> Tree:
    """No process of the container becomes more than it is."""
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
