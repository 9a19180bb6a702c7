"""`plan --simulate`: how long a plan takes on clusters of several sizes, and what its time is spent on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from vjepa_exp.commands.console import columns, prose
from vjepa_exp.commands.on_cluster import OnCluster
from vjepa_exp.commands.planned import Planned
from vjepa_exp.graph.outlook import Outlook, outlooks
from vjepa_exp.graph.simulate import Simulation
from vjepa_exp.report.words import roughly
from vjepa_exp.spec.cluster import ClusterSpec
from vjepa_exp.spec.errors import UserError

HOUR = 3600.0
ORDERS = ("GPUs", "nodes", "order", "time", "over limit", "utilisation", "GPU hours used", "paid", "lost")
HEADER = (*ORDERS, "interruptions", "USD")
SMALL = 0.01
"""Share of the time from which on a part of it is named."""
Pair = tuple[Outlook, Outlook]


def sizes_of(text: str) -> list[int]:
    """Numbers of GPUs as `--simulate` takes them: '16,64,128'.

    Raises:
        UserError: it is none.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and len(part) < 10 and int(part) for part in parts):
        raise UserError(f"--simulate {text}: numbers of GPUs are needed, as in --simulate 16,64,128")
    return list(dict.fromkeys(map(int, parts)))


def simulate_plan(planned: Planned, plan: OnCluster, sizes: Sequence[int]) -> list[Pair]:
    """The plan on so many GPUs, at best and at worst.

    Raises:
        UserError: a size does not fit the cluster, or there is nothing to do.
    """
    done = {row.stage.fingerprint for row in planned.stages if row.in_store}
    demands = plan.demands
    return outlooks(planned.joint.plans, done, lambda stage: demands.get(stage.fingerprint), plan.cluster, sizes)


def print_simulation(pairs: Sequence[Pair], plan: OnCluster, out: Console) -> None:
    """The section of `plan` about simulated clusters."""
    work = pairs[0][0].work
    stages = sum(map(len, work.stages))
    prose(
        out,
        f"\nsimulated: {stages} stages in {len(work.tasks)} trials (probes that share a pass are one) on up to "
        f"{', '.join(str(best.fleet.gpus) for best, _ in pairs)} GPUs, from the best to the worst of all assumptions",
    )
    rows = [line for pair in pairs for line in _lines(pair, plan.cluster)]
    out.file.write(f"{columns(HEADER, rows, right=(0, 1, *range(3, len(HEADER))))}\n")
    for pair in pairs:
        prose(out, _limit(pair))
    for stage in work.unknown:
        out.print(f"left out, as its cost is not known: {stage.id}", soft_wrap=True)
    fleet = pairs[0][0].fleet
    prose(
        out,
        f"limit: the longer of the longest chain of stages and of all GPU hours over all GPUs. A node is there after "
        f"{fleet.start_s / 60:g} min and goes when idle for {fleet.idle_s / 60:g}; nodes for decoding come as CPUs are "
        "held and are never lost; the life of a node is one draw, a function of its number alone",
    )


def _lines(pair: Pair, cluster: ClusterSpec) -> Iterator[tuple[str, ...]]:
    for name in pair[0].named:
        yield _line(pair, name, [one.named[name] for one in pair], cluster)


def _line(pair: Pair, order: str, runs: Sequence[Simulation], cluster: ClusterSpec) -> tuple[str, ...]:
    over = [run.makespan_s / one.least_s for run, one in zip(runs, pair, strict=True)]
    return (
        str(runs[0].fleet.gpus),
        str(runs[0].fleet.max_nodes),
        order,
        _joined([roughly(max(1, run.makespan_s)) for run in runs]),
        _span(over, ".2f"),
        _span([100 * run.utilisation for run in runs], ".0f") + " %",
        _span([run.useful_gpu_s / HOUR for run in runs], ",.0f"),
        _span([run.paid_gpu_s / HOUR for run in runs], ",.0f"),
        _span([run.lost_gpu_s / HOUR for run in runs], ",.0f"),
        _span([float(run.interruptions) for run in runs], ".0f"),
        _span([_usd(run, cluster) for run in runs], ",.0f"),
    )


def _usd(run: Simulation, cluster: ClusterSpec) -> float | None:
    """Of all nodes from their request until they go, the head included; None where a price is missing."""
    head = cluster.head.price_per_hour.on_demand if cluster.head.price_per_hour else None
    spent = {
        "gpu": (run.node_s, cluster.gpu.price),
        "decode": (run.decode_node_s, cluster.decode.price if cluster.decode else None),
        "head": (run.makespan_s, head),
    }
    if any(seconds and price is None for seconds, price in spent.values()):
        return None
    return sum(seconds / HOUR * (price or 0.0) for seconds, price in spent.values())


def _limit(pair: Pair) -> str:
    """What limits a plan on one size, at worst."""
    worst = pair[1]
    parts = worst.seconds()
    named = {limit: seconds for limit, seconds in parts.items() if seconds >= SMALL * sum(parts.values())}
    spent = ", ".join(f"{limit.value} {roughly(seconds)}" for limit, seconds in named.items())
    text = f"{worst.fleet.gpus} GPUs, as run does it, at worst: {spent}"
    if worst.lossy:
        text += f"; a stage is interrupted up to {max(worst.lossy.restarts)} times"
    if worst.chain_s > worst.share_s:
        text += f"; the longest chain: {', then '.join(worst.chain)} ({roughly(worst.chain_s)})"
    return text


def _span(values: Sequence[float | None], form: str) -> str:
    if any(value is None for value in values):
        return "?"
    return _joined([format(value, form) for value in values])


def _joined(texts: Sequence[str]) -> str:
    low, high = texts
    return low if low == high else f"{low} - {high}"


def simulation_json(pairs: Sequence[Pair], cluster: ClusterSpec) -> list[dict[str, object]]:
    """The section as JSON data: for each size and end of the assumptions every order, with its timeline."""
    return [
        {
            "gpus": one.fleet.gpus,
            "assumptions": "worst" if one.worst else "best",
            "limit_s": {"chain": one.chain_s, "gpu_hours": one.share_s, "longest_chain": one.chain},
            "parts_s": {limit.value: seconds for limit, seconds in one.seconds().items()},
            "orders": {order.value: _run_json(run, one, cluster) for order, run in one.runs.items()},
            "with_losses": _run_json(one.lossy, one, cluster) if one.lossy else None,
        }
        for pair in pairs
        for one in pair
    ]


def _run_json(run: Simulation, one: Outlook, cluster: ClusterSpec) -> dict[str, object]:
    names = [task.name for task in one.work.tasks]
    return {
        "makespan_s": run.makespan_s,
        "over_limit": run.makespan_s / one.least_s,
        "utilisation": run.utilisation,
        "useful_gpu_s": run.useful_gpu_s,
        "paid_gpu_s": run.paid_gpu_s,
        "lost_gpu_s": run.lost_gpu_s,
        "decode_node_s": run.decode_node_s,
        "interruptions": run.interruptions,
        "usd": _usd(run, cluster),
        "tasks": [
            {"name": name, "start_s": start, "end_s": end, "restarts": restarts}
            for name, (start, end), restarts in zip(names, run.spans, run.restarts, strict=True)
        ],
        "timeline": [list(moment) for moment in run.moments],
    }


def draw(pairs: Sequence[Pair], title: str, path: Path) -> None:
    """Write the picture of a simulation.

    Raises:
        UserError: it cannot be written.
    """
    from vjepa_exp.report.outlook_figure import draw_outlooks  # matplotlib: a second

    try:
        draw_outlooks([worst for _, worst in pairs], title, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from None
