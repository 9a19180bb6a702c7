"""Scaling for real on one machine: Table 4 on a head without GPUs, whose autoscaler brings fake A100 nodes up and down.

    python benchmarks/autoscale.py --out benchmarks/results --name autoscale_2cores_202611      # text and picture
    python benchmarks/autoscale.py --nodes 4 --set recipe.pretrain.optim.iterations=600         # longer

The cluster is Ray's own autoscaler and real Ray nodes; only the GPUs are made up, so training asks for one and computes
on the CPU. The run is the real command with `--cluster`. Meanwhile Ray's state is read every second from outside:
groups of workers that wait for a node, nodes that are coming and that are up, workers that train (GPUs in use).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from vjepa_exp.runtime.environment import prepare

# Ray reads its environment, the token of the cluster above all, when it is imported:
# ruff: noqa: E402
prepare(None, verbose=False)

import matplotlib.pyplot as plt
from fake_cluster import FakeCluster, fake_cluster
from ray.autoscaler.v2.sdk import get_cluster_status
from ray.exceptions import RpcError

from vjepa_exp.graph.machine import this_machine

COMMAND = [sys.executable, "-c", "from vjepa_exp.cli import main; main()"]
ROOT = Path(__file__).resolve().parents[1]
SHORT = (
    "recipe.pretrain.optim.iterations=120",
    "recipe.pretrain.optim.warmup=20",
    "recipe.pretrain.optim.clip_grad_after=20",
    *(f"recipe.evaluate.{name}.optim.epochs=3" for name in ("k400", "ssv2", "in1k")),
)
"""What makes the laptop profile a matter of minutes: real training on real files, worth nothing as a result."""

LINGER_S = 180.0
"""That nodes are given to go after the last stage."""


@dataclass(frozen=True)
class Moment:
    """The cluster at a moment.

    Attributes:
        time: seconds since the run began.
        pending: groups of workers that wait for a node.
        coming: nodes that were asked for.
        up: nodes besides the head.
        training: workers that have their GPU.
    """

    time: float
    pending: int
    coming: int
    up: int
    training: int


def main() -> None:
    """Run, sample, draw, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=2, help="at most")
    parser.add_argument("--idle", type=float, default=30.0, help="seconds after which a node goes")
    parser.add_argument("--experiment", type=Path, default=ROOT / "experiments" / "table4_masking.yaml")
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--set", action="append", dest="sets", metavar="A.B=VALUE", help="instead of what shortens it")
    parser.add_argument("--store", type=Path, help="of the run; a temporary one if left out")
    parser.add_argument("--out", type=Path, default=Path(), help="folder of text, picture and samples")
    parser.add_argument("--name", default="autoscale", help="of the files there")
    arguments = parser.parse_args()
    sets = SHORT if arguments.sets is None else tuple(arguments.sets)
    with TemporaryDirectory(prefix="vjepa-exp-autoscale-", ignore_cleanup_errors=True) as folder:
        store = arguments.store or Path(folder) / "runs"
        with fake_cluster(Path(folder) / "cluster", arguments.nodes, idle_s=arguments.idle) as cluster:
            command = run_command(cluster, arguments.experiment, arguments.profile, sets, store)
            moments, seconds, returncode = watch(cluster, command)
        if returncode:
            sys.exit(f"the run ended with {returncode}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / arguments.name
    draw(moments, arguments.nodes, path.with_suffix(".png"))
    path.with_suffix(".jsonl").write_text("".join(json.dumps(asdict(one)) + "\n" for one in changes(moments)))
    text = told(moments, arguments, sets, seconds)
    path.with_suffix(".md").write_text(text.replace("PICTURE", f"{arguments.name}.png"), encoding="utf-8")
    print(text)


def run_command(cluster: FakeCluster, experiment: Path, profile: str, sets: Sequence[str], store: Path) -> list[str]:
    """`vjepa-exp run` on the cluster."""
    where = [f"execution.address={cluster.address}", "execution.device=cpu", "execution.worker_resources={GPU: 1.0}"]
    each = [f"--set={one}" for one in (*where, "execution.concurrent_trials=null", *sets)]
    options = ["--profile", profile, "--cluster", str(cluster.spec), "--store", str(store)]
    return [*COMMAND, "run", str(experiment), *options, *each]


def watch(cluster: FakeCluster, command: Sequence[str]) -> tuple[list[Moment], float, int]:
    """Run the command and note what the cluster does until its last node is gone; how long the command took."""
    process = subprocess.Popen(command, env=cluster.environment, cwd=ROOT)
    begun, moments, ended = time.monotonic(), list[Moment](), None
    try:
        while ended is None or not moments or (moments[-1].up and time.monotonic() < ended + LINGER_S):
            with suppress(RpcError):  # a busy machine may be late with an answer
                moments.append(moment(cluster, time.monotonic() - begun))
            if ended is None and process.poll() is not None:
                ended = time.monotonic()
            time.sleep(1.0)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    return moments, ended - begun, process.returncode


def moment(cluster: FakeCluster, seconds: float) -> Moment:
    """Ask Ray."""
    status = get_cluster_status(cluster.address)
    nodes = [one for one in (*status.active_nodes, *status.idle_nodes) if one.total_resources().get("GPU")]
    groups = status.resource_demands.placement_group_demand
    pending = sum(any("GPU" in bundle.bundle for bundle in group.bundles_by_count) for group in groups)
    here = {one.instance_id for one in nodes}
    coming = sum(one.instance_id not in here for one in status.pending_nodes)
    coming += sum(launch.count for launch in status.pending_launches)
    training = sum(one.used_resources().get("GPU", 0.0) for one in nodes)
    return Moment(round(seconds, 1), pending, coming, len(nodes), round(training))


def changes(moments: Sequence[Moment]) -> list[Moment]:
    """The first moment, every one that differs from the one before, and the last."""

    def counts(one: Moment) -> tuple[int, ...]:
        return one.pending, one.coming, one.up, one.training

    differing = [now for before, now in pairwise(moments) if counts(before) != counts(now)]
    return [moments[0], *differing, moments[-1]]


def draw(moments: Sequence[Moment], nodes: int, path: Path) -> None:
    """Pending, nodes and training over time."""
    figure, (above, below) = plt.subplots(2, 1, figsize=(9, 4.6), sharex=True, height_ratios=[1, 1.6], layout="tight")
    times = [one.time for one in moments]
    above.fill_between(times, [one.pending for one in moments], step="post", color="tab:red", alpha=0.35, lw=0)
    above.set_ylabel("waiting")
    above.set_title("stages whose workers wait for a node", fontsize=9, loc="left")
    # for a moment Ray has a node that is up in both lists
    asked = [min(one.up + one.coming, nodes) for one in moments]
    below.step(times, asked, where="post", color="0.6", ls=":", label="nodes asked for")
    below.step(times, [one.up for one in moments], where="post", color="tab:blue", lw=2, label="nodes up")
    training = [one.training for one in moments]
    below.fill_between(times, training, step="post", color="tab:green", alpha=0.35, lw=0, label="workers training")
    below.axhline(nodes, color="k", lw=0.8, ls="--", label=f"max_nodes {nodes}")
    below.set_ylabel("count")
    below.set_xlabel("seconds since the command")
    below.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    for axis in (above, below):
        axis.set_ylim(bottom=0)
        axis.yaxis.get_major_locator().set_params(integer=True)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def told(moments: Sequence[Moment], arguments: argparse.Namespace, sets: Sequence[str], seconds: float) -> str:
    """The result in words."""
    node_s, busy_s = (integral(moments, name) for name in ("up", "training"))
    first = next((one.time for one in moments if one.up), float("nan"))
    rows = {
        "nodes at the start, at most, at the end": f"{moments[0].up}, {max(one.up for one in moments)} "
        f"(max_nodes {arguments.nodes}), {moments[-1].up}",
        "stages waiting for a node, at most": max(one.pending for one in moments),
        "workers training at a time, at most": max(one.training for one in moments),
        "first node up after": f"{first:.0f} s",
        "command": f"{seconds:.0f} s",
        "last node gone after": f"{max((one.time for one in moments if one.up), default=0.0):.0f} s",
        "node-seconds up, of them with a worker": f"{node_s:.0f}, {busy_s / node_s:.0%}" if node_s else "0",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    machine = this_machine()
    experiment = arguments.experiment.stem
    return f"""# {experiment} on an autoscaling cluster of fake A100 nodes, {date.today():%B %Y}

By `benchmarks/autoscale.py` on {machine.cores} cores ({machine.cpu}): Ray's autoscaler and its nodes are real, the
GPUs are not. Training is real and on the CPU, profile `{arguments.profile}`, with
{", ".join(f"`{one}`" for one in sets)}.
Idle nodes go after {arguments.idle:.0f} s. Times are those of a shared machine and say nothing about a cloud.

| | |
|---|--:|
{table}

![pending stages, nodes and training workers over time](PICTURE)
"""


def integral(moments: Sequence[Moment], name: str) -> float:
    """Of a count over time."""
    steps = pairwise(moments)
    return sum(getattr(now, name) * (after.time - now.time) for now, after in steps)


if __name__ == "__main__":
    main()
