"""How stages share a machine."""

from __future__ import annotations

import pytest

from vjepa_exp.graph.machine import Gpu, Machine
from vjepa_exp.runtime.slots import choose_slots
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


def test_gpus_that_are_not_there_are_named() -> None:
    with pytest.raises(UserError, match=r"cuda.*workers 16.*8 GPUs"):
        choose_slots(ExecutionSpec(device="cuda", workers=16), 1, SERVER)
