"""What a restart costs: seconds from a kill, or from `vjepa-exp resume`, until the next step, phase by phase.

    python benchmarks/restart.py                     # the driver killed twice, the training process once
    python benchmarks/restart.py --kills 5 --experiment experiments/quickstart.yaml

A study of the tiny demo set runs as the real command and is killed with SIGKILL in the middle of pretraining. The
phases are those that every stage notes in `starts.jsonl`; `wall` is measured from outside, from the kill (of a training
process) or the command (of a run) to the first row of the journal after it. The ratio is a restart over a first start.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from vjepa_exp.track.journal import JOURNAL, read_journal
from vjepa_exp.track.starts import Start, read_starts

COMMAND = [sys.executable, "-c", "from vjepa_exp.cli import main; main()"]
STUDY: dict[str, Any] = {
    "name": "restart",
    "recipe": {
        "model": {
            "arch": "custom",
            "embed_dim": 96,
            "depth": 4,
            "num_heads": 3,
            "mlp_ratio": 4.0,
            "patch_size": 8,
            "predictor": {"depth": 2, "embed_dim": 48, "num_heads": 3},
        },
        "pretrain": {
            "data": {
                "mixture": [{"dataset": "tiny_motion"}],
                "clip": {"num_frames": 8, "frame_step": 2, "resolution": 48},
            },
            "mask_group_size": 8,
            "optim": {"batch_size": 8, "iterations": 100_000, "warmup": 100},
            "precision": "fp32",
        },
        "evaluate": {},
    },
    "execution": {"device": "cpu", "threads": 1, "checkpoint_every": 20, "log_every": 1},
}


@dataclass
class Run:
    """The study in a folder, done by one process after the other."""

    folder: Path

    def start(self) -> subprocess.Popen[bytes]:
        """Begin, or go on."""
        what = ["resume"] if (self.folder / "runs" / "reports").exists() else ["run", "restart.yaml"]
        return subprocess.Popen([*COMMAND, *what, "--store", "runs"], cwd=self.folder, stdout=subprocess.DEVNULL)

    @property
    def stage(self) -> Path:
        """Folder of the pretraining; one that is not there before it begins."""
        return next((self.folder / "runs").glob("pretrain-*"), self.folder / "nothing")

    def next_step(self, since: float) -> float:
        """Wait for the first step after a moment; returns when it was done, seconds since 1970."""
        while True:
            for row in read_journal(self.stage / JOURNAL):
                if row["time"] > since:
                    return row["time"]
            time.sleep(0.02)

    def train(self, steps: int) -> None:
        """Wait for some more steps."""
        first = max(row["step"] for row in read_journal(self.stage / JOURNAL))
        while max(row["step"] for row in read_journal(self.stage / JOURNAL)) < first + steps:
            time.sleep(0.05)


def killed_driver(run: Run, process: subprocess.Popen[bytes]) -> tuple[float, subprocess.Popen[bytes]]:
    """Kill the command and give it again; wall seconds to the next step."""
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    psutil.wait_procs(children, timeout=60)
    begun = time.time()
    process = run.start()
    return run.next_step(begun) - begun, process


def killed_trainer(run: Run, process: subprocess.Popen[bytes]) -> float:
    """Kill the training process; wall seconds to the next step of its successor."""
    children = psutil.Process(process.pid).children(recursive=True)
    trainer = next(one for one in children if "RayTrainWorker" in one.cmdline()[0])
    os.kill(trainer.pid, signal.SIGKILL)
    trainer.wait()
    begun = time.time()
    return run.next_step(begun) - begun


def show(what: str, wall: float, start: Start) -> None:
    """One line."""
    phases = "  ".join(f"{phase} {seconds:5.1f}" for phase, seconds in start.seconds.items())
    print(f"{what:16}  wall {wall:5.1f} s  noted {start.total:5.1f} s: {phases}  ({start.repeated} steps done again)")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--experiment", type=Path, help="instead of a small one; without its probes")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        run = Run(Path(folder))
        study = yaml.safe_load(arguments.experiment.read_text(encoding="utf-8")) if arguments.experiment else STUDY
        study["recipe"]["evaluate"] = {}
        (run.folder / "restart.yaml").write_text(yaml.safe_dump({**study, "baselines": []}), encoding="utf-8")
        family = study["recipe"]["pretrain"]["data"]["mixture"][0]["dataset"].partition("_")[0]
        subprocess.run([*COMMAND, "data", "demo", family, "--store", "runs"], cwd=run.folder, check=True)
        begun = time.time()
        process = run.start()
        walls = [run.next_step(begun) - begun]
        try:
            for _ in range(arguments.kills):
                run.train(30)
                wall, process = killed_driver(run, process)
                walls.append(wall)
            run.train(30)
            walls.append(killed_trainer(run, process))
            time.sleep(0.5)
        finally:
            children = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGINT)
            process.wait()
            psutil.wait_procs(children, timeout=60)
        starts = read_starts(run.stage)
    names = ["first start", *["resumed"] * arguments.kills, "worker replaced"]
    for name, wall, start in zip(names, walls, starts, strict=True):
        show(name, wall, start)
    resumed, replaced = statistics.median(walls[1:-1]), walls[-1]
    print(f"ratio resumed / first start: {resumed / walls[0]:.2f}")
    print(f"ratio worker replaced / first start: {replaced / walls[0]:.2f}")


if __name__ == "__main__":
    main()
