"""Two gloo workers take two steps with DDP and write their weights into a folder. Run by test_pretrain_step."""

import importlib.util
import multiprocessing
import sys
from pathlib import Path
from types import ModuleType

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel


def load_tests() -> ModuleType:
    spec = importlib.util.spec_from_file_location("step_tests", Path(__file__).with_name("test_pretrain_step.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def work(rank: int, folder: Path) -> None:
    tests = load_tests()
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    recipe = tests.spec()
    state = tests.new_state(recipe)
    wrapped = DistributedDataParallel(state.model)
    step_fn = tests.make_pretrain_step(recipe.optim, wrapped=wrapped, cut=((2, 1), (1,)))
    for step in (1, 2):
        # Each worker holds a half of both mask groups, and passes its rows in two micro-batches.
        parts = [range(2 * rank, 2 * rank + 2), range(4 + 2 * rank, 6 + 2 * rank)]
        groups = [g for part in parts for g in tests.draw_masks(recipe, tests.ENCODER.grid, 1, step, part)]
        clips = torch.cat([tests.batch(step)[part.start : part.stop] for part in parts])
        step_fn(state, clips, groups)
    torch.save(tests.weights(state), folder / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=work, args=(rank, Path(sys.argv[1]))) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    sys.exit(max(abs(worker.exitcode or 0) for worker in workers))
