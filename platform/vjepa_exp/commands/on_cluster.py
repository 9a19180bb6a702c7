"""`plan --cluster`: what the stages of a plan ask of a cluster, in a table and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from rich.console import Console

from vjepa_exp.commands.cluster import find_cluster
from vjepa_exp.commands.console import columns, prose
from vjepa_exp.commands.planned import Planned, PlannedStage
from vjepa_exp.commands.plans import amount
from vjepa_exp.graph.cost import DECODING
from vjepa_exp.graph.demand import ASSUMED, Demand, Range, cluster_device, demand
from vjepa_exp.graph.joint import kind_of_work
from vjepa_exp.graph.outlook import decoding_share
from vjepa_exp.report.words import roughly
from vjepa_exp.spec.cluster import ClusterSpec, DecodeGroup, Provider, read_cluster
from vjepa_exp.spec.stages import DataRecipe, PretrainRecipe, ReleasedRecipe

RESOURCES = ("stages", "count", "GPUs", "least", "nodes", "memory/GPU", "hours each", "limit", "cores/GPU")
HEADER = (*RESOURCES, "network/node", "reads/s", "checkpoint", "written in", "extra", "GPU hours", "USD")


@dataclass(frozen=True)
class OnCluster:
    """A plan on a cluster."""

    file: Path
    cluster: ClusterSpec
    provider: Provider
    rows: tuple[tuple[PlannedStage, Demand], ...]
    """Stages that are to do and whose cost is known, with what they ask for."""

    @cached_property
    def demands(self) -> Mapping[str, Demand]:
        """By fingerprint."""
        return {row.stage.fingerprint: asked for row, asked in self.rows}

    @cached_property
    def groups(self) -> Mapping[str, list[Demand]]:
        """The same by kind of work, model and resolution."""
        found = dict[str, list[Demand]]()
        for row, asked in self.rows:
            found.setdefault(_group(row), []).append(asked)
        return found


def on_cluster(planned: Planned, name: str) -> OnCluster:
    """The stages that are to do, on a cluster file or one that comes along.

    Raises:
        SpecError: the cluster is not valid.
        UserError: there is no such cluster, or it is too small for a stage.
    """
    file = find_cluster(name)
    cluster, providers = read_cluster(file)
    registry = planned.studies[0].registry
    rows = tuple(
        (row, demand(row.stage, row.cost, row.execution, cluster, registry))
        for row in planned.to_do
        if row.cost is not None
    )
    return OnCluster(file, cluster, providers[0], rows)


def print_on_cluster(plan: OnCluster, out: Console) -> None:
    """The section of `plan` about a cluster."""
    prose(out, f"\non cluster '{plan.cluster.name}' ({plan.file}): {_machines(plan)}")
    if not plan.rows:
        out.print("nothing to do there")
        return
    rows = [_line(name, asked) for name, asked in plan.groups.items()]
    rows.append(_sum_line([asked for _, asked in plan.rows]))
    out.file.write(f"{columns(HEADER, rows, right=range(1, len(HEADER)))}\n")
    lines = (_decoding(plan), _network(plan), _losses(plan), *_doomed(plan), _cost(plan), _assumed(plan))
    for line in (*_micro_batches(plan), *lines):
        prose(out, line)


def on_cluster_json(plan: OnCluster) -> dict[str, object]:
    """The section as JSON data."""
    asked = [one for _, one in plan.rows]
    return {
        "file": str(plan.file),
        "cluster": plan.cluster.to_json(),
        "provider": plan.provider,
        "device": cluster_device(plan.cluster).name,
        "stages": {row.stage.id: asdict(one) for row, one in plan.rows},
        "sum": {
            "stages": len(asked),
            "gpu_hours": _total(one.hours and _times(one.hours, one.gpus) for one in asked),
            "node_hours": _total(one.node_hours for one in asked),
            "decode_node_hours": _total(one.decode_node_hours for one in asked),
            "price_usd": None if any(one.price is None for one in asked) else _total(one.price for one in asked),
            "waiting_for_decoding": decoding_share(asked),
        },
        "assumptions": [cluster_device(plan.cluster).assumption, DECODING, ASSUMED],
    }


def _group(row: PlannedStage) -> str:
    recipe = row.stage.recipe
    if isinstance(recipe, DataRecipe | ReleasedRecipe):
        return kind_of_work(row.stage)
    shared = f"{kind_of_work(row.stage)} {recipe.model.arch.removeprefix('vit_')}"
    if isinstance(recipe, PretrainRecipe):
        pixels = " pixels" if recipe.pretrain.objective.kind == "pixels" else ""
        return f"{shared} {recipe.pretrain.data.clip.resolution}{pixels}"
    task = recipe.probe if recipe.kind == "probe" else recipe.finetune if recipe.kind == "finetune" else None
    return f"{shared} {task.clip.resolution} {task.dataset}" if task else shared


def _machines(plan: OnCluster) -> str:
    cluster, cloud = plan.cluster, plan.provider
    group, decode = cluster.gpu, cluster.decode
    gpu_machine = "pods" if cloud == "kuberay" else cluster.gpu_machine(cloud).name
    parts = [
        f"up to {group.max_nodes} x {gpu_machine} ({group.gpus_per_node} {cluster_device(cluster).name}, {group.cpus} "
        f"CPUs), {_bought(group)}"
    ]
    if decode is not None:
        machine = "pods" if cloud == "kuberay" else cluster.cpu_machine(cloud, "decode").name
        parts.append(f"for decoding up to {decode.max_nodes} x {machine} ({decode.cpus} CPUs), {_bought(decode)}")
    return "; ".join(parts)


def _bought(group: DecodeGroup) -> str:
    return "spot" if group.spot else "on demand"


def _line(name: str, asked: Sequence[Demand]) -> tuple[str, ...]:
    written = [one.checkpoints for one in asked if one.checkpoints]
    return (
        name,
        str(len(asked)),
        _ints(one.gpus for one in asked),
        _ints(one.least_gpus for one in asked),
        _ints(one.nodes for one in asked),
        f"{max(one.memory_bytes for one in asked) / 1e9:.3g} GB",
        _hours([one.hours for one in asked]),
        ", ".join(dict.fromkeys(one.limit for one in asked)),
        _span(_widest(one.cores_per_gpu for one in asked), lambda value: f"{value:.1f}"),
        _rate(max(one.network_bytes_per_s or 0 for one in asked)),
        _span(_widest(one.read_bytes_per_s for one in asked), _rate),
        f"{amount(max(one.size_bytes for one in written))}B" if written else "none",
        f"{max(one.write_s for one in written):.0f} s" if written else "",
        _span(_widest(one.extra for one in asked), _percent),
        _span(_total(one.hours and _times(one.hours, one.gpus) for one in asked), lambda value: f"{value:,.0f}"),
        _usd(asked),
    )


def _sum_line(asked: Sequence[Demand]) -> tuple[str, ...]:
    hours = _span(_total(one.hours and _times(one.hours, one.gpus) for one in asked), lambda value: f"{value:,.0f}")
    return ("all", str(len(asked)), *[""] * 12, hours, _usd(asked))


def _usd(asked: Sequence[Demand]) -> str:
    if any(one.price is None for one in asked):
        return "?"
    return _span(_total(one.price for one in asked), lambda value: f"{value:,.0f}")


def _micro_batches(plan: OnCluster) -> Iterable[str]:
    smaller = dict[tuple[int, int | None], list[PlannedStage]]()
    for row, asked in plan.rows:
        if asked.micro_batch is not None:
            smaller.setdefault((asked.micro_batch, row.execution.micro_batch), []).append(row)
    for (micro_batch, configured), rows in smaller.items():
        most = max(row.cost.memory_bytes for row in rows if row.cost)
        yield (
            f"memory: {len(rows)} stages (first: {rows[0].stage.id}) need up to {most / 1e9:.3g} GB of "
            f"{plan.cluster.gpu.gpu_memory_gb} with execution.micro_batch={configured}; planned with "
            f"--set execution.micro_batch={micro_batch}, which run needs too and which changes no number"
        )


def _decoding(plan: OnCluster) -> str:
    asked = [one for _, one in plan.rows]
    group, decode = plan.cluster.gpu, plan.cluster.decode
    started = _ints(row.execution.decoders for row, _ in plan.rows)
    best, worst = (sum(one.limit == words for one in asked) for words in ("decoding", "decoding at worst"))
    low, high = decoding_share(asked)
    more = decode.max_nodes * decode.cpus / (group.max_nodes * group.gpus_per_node) if decode else 0.0
    others = f", {more:.0f} more on decode nodes" if decode else ""
    needed = _span(_widest(one.cores_per_gpu for one in asked), lambda value: f"{value:.1f}")
    limits = (
        f"it is the limit of {best} stages even at best and of {worst} more at worst, {100 * low:.0f} to "
        f"{100 * high:.0f} % of the GPU hours wait for it"
        if best or worst
        else "it is the limit of no stage"
    )
    return (
        f"decoding: a stage starts {started} decoders for each GPU (execution.decode_workers over workers) and holds "
        f"as many CPUs and one; {needed} would keep each fed, a GPU node has "
        f"{group.cpus / group.gpus_per_node:.0f} for each{others}; {limits}"
    )


def _network(plan: OnCluster) -> str:
    most = max((one.reduced_bytes for _, one in plan.rows), default=0.0)
    speed = plan.cluster.gpu.network_gbit_per_s
    if not most:
        return "network: every stage trains within one node, gradients do not leave it"
    taken = (
        f"{most * 8e-9 / speed:.2g} s at {speed:g} Gbit/s, counted in full at worst"
        if speed
        else "its time is not counted: gpu.network_gbit_per_s is not configured"
    )
    return f"network: a node sends and receives up to {amount(most)}B of gradients a step; {taken}"


def _losses(plan: OnCluster) -> str:
    rate, speed = plan.cluster.gpu.interruptions_per_node_hour, plan.cluster.storage.mb_per_s
    written = [one.checkpoints for _, one in plan.rows if one.checkpoints]
    if rate is None:
        return (
            f"losses: none counted, as gpu.interruptions_per_node_hour is not configured; extra is the writing of "
            f"checkpoints at {speed:g} MB/s (storage.mb_per_s)"
        )
    text = f"losses: {rate:g} interruptions a node and hour (gpu.interruptions_per_node_hour)"
    spans = [one.best_steps for one in written if one.best_steps]
    if not spans:
        return text
    steps = _ints(one.steps for one in written)
    low, high = min(low for low, _ in spans), max(high for _, high in spans)
    return (
        f"{text}, {60 * plan.cluster.gpu.start_minutes:.0f} s until a node is back, checkpoints at {speed:g} MB/s "
        f"(storage.mb_per_s); extra is expected to be least with {low:.0f} to {high:.0f} steps between checkpoints, "
        f"execution.checkpoint_every is {steps}; the test of a probe begins anew"
    )


def _doomed(plan: OnCluster) -> Iterable[str]:
    rows = [row for row, asked in plan.rows if asked.extra[1] > 1]
    if rows:
        worst = max(rows, key=lambda row: plan.demands[row.stage.fingerprint].extra)
        yield (
            f"!: {len(rows)} stages would take more than twice as long at worst (most: {worst.stage.id}): write "
            "checkpoints more often (--set execution.checkpoint_every=...), give them nodes that stay "
            "(gpu.spot: false), or more execution.workers"
        )


def _cost(plan: OnCluster) -> str:
    cluster, asked = plan.cluster, [one for _, one in plan.rows]
    total = _total(one.node_hours for one in asked)
    others = _total(one.decode_node_hours for one in asked)
    nodes = f"{_span(total, lambda value: f'{value:,.0f}')} hours of GPU nodes"
    if others and others[1]:
        nodes += f", {_span(others, lambda value: f'{value:,.0f}')} of nodes for decoding"
    groups: dict[str, DecodeGroup] = {"gpu": cluster.gpu}
    if cluster.decode and others and others[1]:
        groups["decode"] = cluster.decode
    lacking = [
        f"{name}.price_per_hour.{'spot' if group.spot else 'on_demand'}"
        for name, group in groups.items()
        if group.price is None
    ]
    if lacking:
        return f"cost: {nodes}; no price configured ({' and '.join(lacking)} of {plan.file})"
    sources = dict.fromkeys(group.price_per_hour.source for group in groups.values() if group.price_per_hour)
    at = ", ".join(f"{name} {group.price:g} ({_bought(group)})" for name, group in groups.items())
    return (
        f"cost: {_span(_total(one.price for one in asked), lambda value: f'{value:,.0f}')} USD for {nodes}, at USD a "
        f"node and hour: {at}; source: {'; '.join(sources)}; without the head, idle nodes and storage"
    )


def _assumed(plan: OnCluster) -> str:
    return f"assumed: {cluster_device(plan.cluster).assumption}; {DECODING}; {ASSUMED}"


def _times(span: Range, factor: float) -> Range:
    return span[0] * factor, span[1] * factor


def _total(spans: Iterable[Range | None]) -> Range | None:
    known = [span for span in spans if span is not None]
    return (sum(low for low, _ in known), sum(high for _, high in known)) if known else None


def _widest(spans: Iterable[Range | None]) -> Range | None:
    known = [span for span in spans if span is not None]
    return (min(low for low, _ in known), max(high for _, high in known)) if known else None


def _hours(spans: Iterable[Range | None]) -> str:
    return _span(_widest(spans), lambda value: roughly(max(1, 3600 * value)))


def _span(span: Range | None, words: Callable[[float], str]) -> str:
    if span is None:
        return "?"
    low, high = map(words, span)
    return low if low == high else f"{low} - {high}"


def _ints(values: Iterable[int]) -> str:
    found = sorted(set(values))
    return str(found[0]) if len(found) == 1 else f"{found[0]} - {found[-1]}" if found else ""


def _percent(value: float) -> str:
    return f"{100 * value:.1f}%" if value < 1 else f"x{1 + value:.3g}"


def _rate(value: float) -> str:
    return f"{amount(value)}B/s" if value else "0"
