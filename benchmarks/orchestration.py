"""What Ray costs: pretraining steps fed by Ray Data inside Ray Train over a bare PyTorch loop with batches in memory.

    python benchmarks/orchestration.py                      # the model of experiments/quickstart.yaml, one torch thread
    python benchmarks/orchestration.py --threads 2 --steps 200 --experiment experiments/quickstart.yaml

Three loops over the same steps, each the project's own `pretrain`: bare (a plain process, no Ray on the machine), the
same with batches in memory inside a Ray Train worker, and the worker fed by the stream. Clips are made up instead of
decoded, so decoding is never the limit. Times are medians over steps, for the bare loop the better one of a run before
and a run after Ray; `waiting` is the part of a step in which the loop stands still for its next batch.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vjepa_exp.runtime.environment import prepare

# Ray reads its environment when it is imported:
# ruff: noqa: E402
prepare(None, verbose=False)

import numpy as np
import torch
from made_up import MadeUp
from ray.train import LoggingConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, prepare_model

from vjepa_exp.runtime.rows import Rows, StreamOptions
from vjepa_exp.runtime.session import ray_session
from vjepa_exp.runtime.stream import Batch, stream
from vjepa_exp.spec.load import PAPER, read_experiment, resolve
from vjepa_exp.spec.stages import PretrainRecipe
from vjepa_exp.train.pretrain import pretrain
from vjepa_exp.train.world import World

WARM_UP = 10


@dataclass(frozen=True)
class Job:
    """What is measured."""

    recipe: PretrainRecipe
    threads: int
    steps_per_block: int

    @property
    def source(self) -> MadeUp:
        """Its clips."""
        return MadeUp.of(self.recipe.pretrain.data.clip)

    @property
    def rows(self) -> Rows:
        """What its one worker reads."""
        return Rows(self.recipe.pretrain.optim.batch_size, self.recipe.pretrain.optim.iterations)


@dataclass(frozen=True)
class Timing:
    """Medians over the steps after the warm-up, in milliseconds."""

    step_ms: float
    waiting_ms: float


def measure(job: Job, world: World, batches: Iterable[Batch]) -> Timing:
    """Train and time every step."""
    torch.set_num_threads(job.threads)
    waits: list[float] = []
    ends: list[float] = []

    def watched() -> Iterator[Batch]:
        source = iter(batches)
        while True:
            begun = time.perf_counter()
            batch = next(source, None)
            if batch is None:
                return
            waits.append(time.perf_counter() - begun)
            yield batch

    pretrain(job.recipe, world, watched(), order="made up", hooks=[lambda info: ends.append(time.perf_counter())])
    steps = np.diff(ends)[WARM_UP:]
    return Timing(1000 * float(np.median(steps)), 1000 * statistics.median(waits[WARM_UP + 1 :]))


def in_memory(job: Job) -> list[Batch]:
    """All batches of the run."""
    return [job.source.load(np.asarray(job.rows.positions(k), np.int64)) for k in range(job.rows.num_batches)]


def bare(job: Job) -> dict[str, float]:
    """The loop in this process."""
    return asdict(measure(job, World(), in_memory(job)))


def in_ray(config: dict[str, Any]) -> None:
    """Both loops in a Ray Train worker."""
    job: Job = config["job"]
    world = World(device=torch.device("cpu"), wrap=prepare_model)
    row_bytes = int(np.prod(job.source.shape))
    options = StreamOptions(decode_workers=1, steps_per_block=job.steps_per_block, row_bytes=row_bytes)
    found = {
        "memory": asdict(measure(job, world, in_memory(job))),
        "stream": asdict(measure(job, world, stream(job.source, job.rows, options))),
    }
    Path(config["out"]).write_text(json.dumps(found), encoding="utf-8")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", type=Path, default=Path("experiments/quickstart.yaml"))
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps-per-block", type=int, default=4)
    options = parser.parse_args()
    steps = [f"recipe.pretrain.optim.iterations={options.steps}", "recipe.pretrain.optim.warmup=1"]
    recipe = resolve(read_experiment(options.experiment), PAPER, steps).experiment.recipe
    work = PretrainRecipe(seed=recipe.seed, model=recipe.model, pretrain=recipe.pretrain, digests={})
    job = Job(work, options.threads, options.steps_per_block)

    before = bare_alone(job)
    with tempfile.TemporaryDirectory() as folder, ray_session(None, cpus=4, gpus=0):
        out = Path(folder) / "found.json"
        trainer = TorchTrainer(
            in_ray,
            train_loop_config={"job": job, "out": str(out)},
            scaling_config=ScalingConfig(num_workers=1),
            run_config=RunConfig(  # type: ignore[call-arg]
                name="run", storage_path=folder, logging_config=LoggingConfig(log_level="ERROR")
            ),
        )
        trainer.fit()
        found = json.loads(out.read_text(encoding="utf-8"))
    alone = min(before, bare_alone(job), key=lambda timing: timing["step_ms"])
    report(alone, found["memory"], found["stream"])


def bare_alone(job: Job) -> dict[str, float]:
    """The bare loop in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(bare, (job,))


def report(alone: dict[str, float], memory: dict[str, float], streamed: dict[str, float]) -> None:
    """The table and the ratio."""
    rows = [("bare loop, batches in memory", alone), ("Ray Train worker, batches in memory", memory)]
    rows += [("Ray Train worker, Ray Data stream", streamed)]
    print(f"{'':38}{'ms/step':>9}{'waiting':>9}{'ratio':>8}")
    for name, row in rows:
        print(f"{name:38}{row['step_ms']:9.1f}{row['waiting_ms']:9.1f}{alone['step_ms'] / row['step_ms']:8.2f}")
    lost = streamed["step_ms"] - alone["step_ms"]
    waiting = streamed["waiting_ms"] - alone["waiting_ms"]
    worker = memory["step_ms"] - alone["step_ms"]
    print(
        f"of {lost:.1f} ms a step: {waiting:.1f} waiting for batches, {worker:.1f} the worker process itself, ", end=""
    )
    print(f"{lost - waiting - worker:.1f} sharing the cores with the stream")


if __name__ == "__main__":
    main()
