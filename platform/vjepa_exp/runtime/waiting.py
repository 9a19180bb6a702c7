"""What stages on a cluster wait for, told from Ray's state, so that no run hangs in silence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ray
from ray._common.constants import HEAD_NODE_RESOURCE_NAME
from ray.autoscaler.v2.schema import ClusterStatus
from ray.autoscaler.v2.sdk import get_cluster_status
from ray.exceptions import RayError

from vjepa_exp.runtime.slots import Slots


@dataclass(frozen=True)
class Waiting:
    """Stages that wait for nodes, the longest of them for so many seconds."""

    stages: int
    seconds: float
    text: str


def waiting(starting: Sequence[tuple[Slots, float]]) -> Waiting | None:
    """Ask Ray whether there is no room for what stages begin with; None: there is, or Ray is silent.

    Args:
        starting: what each of them asks for, and for how many seconds it has waited.
    """
    if not starting:
        return None
    try:
        status = get_cluster_status(ray.get_runtime_context().gcs_address)
    except RayError:
        return None
    slots, seconds = starting[0][0], max(seconds for _, seconds in starting)
    if groups := _pending_groups(status):
        stages, what = min(len(starting), groups), asked(slots)
    elif decoders := _pending_decoders(status):
        stages, what = len(starting), f"decoders ({decoders} CPUs in all)"
    else:
        return None
    return Waiting(stages, seconds, f"{_who(stages, what, seconds)}; nodes: {_nodes(status)}")


def asked(slots: Slots) -> str:
    """'2 x (1 CPU, 1 GPU, A100)'."""
    parts = [
        name.partition(":")[2] if name.startswith("accelerator_type:") else f"{amount:g} {name}"
        for name, amount in slots.asks.items()
    ]
    return f"{slots.workers} x ({', '.join(parts)})"


def _who(stages: int, what: str, seconds: float) -> str:
    if stages == 1:
        return f"1 stage has waited {seconds:.0f} s for {what}"
    return f"{stages} stages wait, each for {what}, the longest for {seconds:.0f} s"


def _nodes(status: ClusterStatus) -> str:
    """'1 up, 2 coming', and why a provider does not give one."""
    alive = [*status.active_nodes, *status.idle_nodes]
    up = sum(HEAD_NODE_RESOURCE_NAME not in node.total_resources() for node in alive)
    here = {node.instance_id for node in alive}
    pending = sum(node.instance_id not in here for node in status.pending_nodes)
    coming = pending + sum(launch.count for launch in status.pending_launches)
    refused = next((launch.details for launch in reversed(status.failed_launches) if launch.details), None)
    return f"{up} up, {coming} coming" + (f", one was refused: {refused}" if refused and not coming else "")


def _pending_groups(status: ClusterStatus) -> int:
    """Groups of workers without room; what asks for the head alone is a trial that begins."""
    groups = status.resource_demands.placement_group_demand
    return sum(any(HEAD_NODE_RESOURCE_NAME not in one.bundle for one in group.bundles_by_count) for group in groups)


def _pending_decoders(status: ClusterStatus) -> int:
    """Actors without a CPU: what training waits for once its own workers are there."""
    demands = status.resource_demands.ray_task_actor_demand
    return sum(one.count for demand in demands for one in demand.bundles_by_count if one.bundle.get("CPU", 0.0) >= 1)
