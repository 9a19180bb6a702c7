"""What is said of stages that wait for nodes: in words, from what Ray knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ray.autoscaler.v2 import schema

from vjepa_exp.runtime import waiting as module
from vjepa_exp.runtime.slots import Slots
from vjepa_exp.runtime.waiting import asked, waiting

SLOTS = Slots("cuda", 4, 8, 10, 1, {"CPU": 1.0, "GPU": 1.0, "accelerator_type:A100": 0.001}, joined=True)
HEAD = "node:__internal_head__"
Answer = Callable[[schema.ClusterStatus], None]


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Answer:
    """Has Ray answer with a status."""

    def _answer(status: schema.ClusterStatus) -> None:
        monkeypatch.setattr(module, "get_cluster_status", lambda address: status)
        monkeypatch.setattr(module.ray, "get_runtime_context", lambda: type("Context", (), {"gcs_address": ""}))

    return _answer


def node(instance: str, *resources: str) -> schema.NodeInfo:
    usage = schema.NodeUsage([schema.ResourceUsage(name, 1.0, 0.0) for name in resources], 0)
    return schema.NodeInfo("", "", instance, "", resource_usage=usage)


def status(groups: list[dict[str, float]], actors: int = 0, **changes: Any) -> schema.ClusterStatus:
    demand = schema.ResourceDemandSummary(
        placement_group_demand=[
            schema.PlacementGroupResourceDemand([schema.ResourceRequestByCount(one, 8)], "") for one in groups
        ],
        ray_task_actor_demand=[
            schema.RayTaskActorDemand([schema.ResourceRequestByCount({"CPU": 1.0}, actors)] if actors else [])
        ],
    )
    alive = [node("h", HEAD, "CPU"), node("a", "GPU")]
    return schema.ClusterStatus(idle_nodes=alive, resource_demands=demand, **changes)


def test_stages_without_room_for_their_workers_wait_for_nodes(answer: Answer) -> None:
    answer(status([SLOTS.asks] * 2, pending_nodes=[node("a"), node("b")]))
    found = waiting([(SLOTS, 12.0), (SLOTS, 40.4), (SLOTS, 7.0)])
    assert found is not None
    assert (found.stages, found.seconds) == (2, 40.4)
    assert found.text == (
        "2 stages wait, each for 8 x (1 CPU, 1 GPU, A100), the longest for 40 s; nodes: 1 up, 1 coming"
    )


def test_why_a_provider_gives_no_node_is_said(answer: Answer) -> None:
    refused = schema.LaunchRequest("", "gpu", 1, schema.LaunchRequest.Status.FAILED, 0, 1, "no capacity in us-east-1a")
    answer(status([SLOTS.asks], failed_launches=[refused]))
    found = waiting([(SLOTS, 700.0)])
    assert found is not None
    assert found.text == (
        "1 stage has waited 700 s for 8 x (1 CPU, 1 GPU, A100); "
        "nodes: 1 up, 0 coming, one was refused: no capacity in us-east-1a"
    )


def test_training_waits_for_its_decoders_too(answer: Answer) -> None:
    answer(status([], actors=5))
    found = waiting([(SLOTS, 20.0)])
    assert found is not None
    assert found.text == "1 stage has waited 20 s for decoders (5 CPUs in all); nodes: 1 up, 0 coming"


def test_nobody_waits_where_there_is_room(answer: Answer) -> None:
    answer(status([{HEAD: 0.001}]))  # a trial that begins
    assert waiting([(SLOTS, 20.0)]) is None
    assert waiting([]) is None


def test_what_a_worker_asks_for_in_words() -> None:
    assert asked(Slots("cpu", 1, 2, 1, 1, {"CPU": 2.0, "fpga": 0.5})) == "2 x (2 CPU, 0.5 fpga)"
