"""How stages share a machine."""

from __future__ import annotations

import pytest

from vjepa_exp.graph.machine import Gpu, Machine, cluster_machine
from vjepa_exp.runtime.slots import Slots, choose_slots
from vjepa_exp.spec.cluster import ClusterSpec
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.execution import ExecutionSpec

LAPTOP = Machine("cpu", cores=2, memory_bytes=24 * 2**30)
SERVER = Machine("cpu", cores=64, memory_bytes=512 * 2**30, gpus=tuple(Gpu("A100", 80.0) for _ in range(8)))


def test_the_cores_are_shared_by_the_stages_that_run_at_a_time() -> None:
    alone, pair = (choose_slots(ExecutionSpec(), stages, LAPTOP) for stages in (1, 4))
    assert (alone.device, alone.concurrent, alone.threads) == ("cpu", 1, 2)
    assert (pair.concurrent, pair.threads) == (2, 1)


def test_memory_limits_the_stages_at_a_time() -> None:
    small = Machine("cpu", cores=16, memory_bytes=8 * 2**30)
    assert choose_slots(ExecutionSpec(), 12, small).concurrent == 2


def test_every_training_process_has_a_gpu_of_its_own() -> None:
    slots = choose_slots(ExecutionSpec(workers=2), 12, SERVER)
    assert (slots.device, slots.concurrent, slots.gpus) == ("cuda", 4, 8)
    assert choose_slots(ExecutionSpec(workers=2, concurrent_trials=100), 12, SERVER).concurrent == 4
    assert choose_slots(ExecutionSpec(workers=8), 12, SERVER).concurrent == 1


def test_what_the_user_says_is_done() -> None:
    slots = choose_slots(ExecutionSpec(device="cpu", concurrent_trials=3, threads=5, decode_workers=2), 4, SERVER)
    assert (slots.device, slots.concurrent, slots.threads, slots.cpus) == ("cpu", 3, 5, 9)


def test_the_decoders_of_a_stage_are_shared_by_its_workers() -> None:
    slots = choose_slots(ExecutionSpec(workers=8, decode_workers=60), 1, SERVER)
    assert (slots.decode_workers, slots.cpus) == (8, 72)


def test_gpus_that_are_not_there_are_named() -> None:
    with pytest.raises(UserError, match=r"cuda.*workers 16.*8 GPUs"):
        choose_slots(ExecutionSpec(device="cuda", workers=16), 1, SERVER)


def cluster(nodes: int = 4, gpus: int = 8, cpus: int = 96, **changes: object) -> ClusterSpec:
    return ClusterSpec.model_validate(
        {
            "name": "team",
            "image": "registry.example.com/vjepa-exp:1",
            "providers": {"kuberay": {}},
            "gpu": {
                "accelerator": "A100",
                "gpu_memory_gb": 40,
                "gpus_per_node": gpus,
                "cpus": cpus,
                "memory_gib": 100,
                "max_nodes": nodes,
            },
            "storage": {"uri": "nfs://10.0.0.2/vjepa"},
            "tracking": {"kind": "in_cluster"},
            **changes,
        }
    )


def on_cluster(spec: ClusterSpec, stages: int = 12, **execution: object) -> Slots:
    chosen = ExecutionSpec.model_validate(execution)
    return choose_slots(chosen, stages, cluster_machine(spec), joined=True, accelerator=spec.gpu.accelerator)


def test_a_cluster_is_shared_as_what_it_can_become() -> None:
    slots = on_cluster(cluster(), workers=8)
    assert (slots.device, slots.concurrent, slots.gpus) == ("cuda", 4, 32)
    assert slots.asks == {"CPU": 1, "GPU": 1, "accelerator_type:A100": 0.001}
    assert on_cluster(cluster(), workers=8, concurrent_trials=2).concurrent == 2


def test_the_cpus_of_a_cluster_limit_the_stages_as_its_gpus_do() -> None:
    assert on_cluster(cluster(cpus=24), workers=4, decode_workers=20).concurrent == 4
    decode = {"cpus": 24, "memory_gib": 48, "max_nodes": 4}
    assert on_cluster(cluster(cpus=24, decode=decode), workers=4, decode_workers=20).concurrent == 8


def test_what_a_cluster_can_never_have_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"^execution.device is cuda and execution.workers 64, but there are 32 GPUs at "
    ):
        on_cluster(cluster(), workers=64, device="cuda")
    with pytest.raises(UserError, match=r"execution.workers 8 with 13 CPUs each.*96 CPUs at most on the cluster team"):
        on_cluster(cluster(nodes=1), workers=8, decode_workers=90)
    with pytest.raises(UserError, match="only nodes of a cluster offer fpga"):
        choose_slots(ExecutionSpec(worker_resources={"fpga": 1.0}), 1, SERVER)


def test_a_cluster_that_has_the_fewest_workers_is_enough() -> None:
    slots = on_cluster(cluster(nodes=1), workers=16, min_workers=4)
    assert (slots.device, slots.concurrent, slots.workers) == ("cuda", 1, 8)
    with pytest.raises(UserError, match=r"min_workers 12, but there are 8 GPUs"):
        on_cluster(cluster(nodes=1), workers=16, min_workers=12, device="cuda")


def test_a_worker_that_computes_on_the_cpu_may_ask_for_a_gpu_node() -> None:
    slots = on_cluster(cluster(nodes=2, gpus=1, cpus=4), device="cpu", worker_resources={"GPU": 1.0})
    assert (slots.device, slots.concurrent, slots.gpus) == ("cpu", 2, 2)
    assert slots.asks == {"CPU": 1, "GPU": 1, "accelerator_type:A100": 0.001}
