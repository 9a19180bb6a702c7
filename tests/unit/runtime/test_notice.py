"""Notice before a node goes reaches all workers of a stage after the same step."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

WORKER = """
import json, os, signal, sys
import torch.distributed as dist
from vjepa_exp.runtime import notice
from vjepa_exp.train.world import World

folder, rank, size, when = sys.argv[1], *map(int, sys.argv[2:])
notice._drained = lambda: False  # no controller of Ray Train tells this process anything
notice.heed_sigterm()
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size)
asked, steps = notice.Notice(World(rank, size)), []
for step in range(1, 9):
    if rank == size - 1 and step == when:
        os.kill(os.getpid(), signal.SIGTERM)
    steps.append(asked.given())
print(json.dumps(steps))
"""


@pytest.mark.parametrize(("size", "late"), [(1, 0), (3, 1)])
def test_every_worker_hears_of_a_notice_to_one_of_them_after_the_same_step(
    tmp_path: Path, size: int, late: int
) -> None:
    arguments = [[sys.executable, "-c", WORKER, str(tmp_path), str(rank), str(size), "4"] for rank in range(size)]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in arguments]
    heard = [json.loads(worker.communicate(timeout=240)[0]) for worker in workers]
    assert heard == [[step >= 4 + late for step in range(1, 9)]] * size
