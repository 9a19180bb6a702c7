"""What one stage asks of a cluster: GPUs, nodes, decoding, network, storage, checkpoints, and what it costs there.

Hours are ranges, from the best to the worst of all assumptions; `ASSUMED` puts those in words that no file states.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from math import ceil

from vjepa_exp.graph.cost import GPUS, IMAGES_PER_CORE, VIDEO_CLIPS_PER_CORE, Device, StageCost, decode_cores, hours
from vjepa_exp.graph.cost import stage_cost as cost_of
from vjepa_exp.graph.losses import best_interval, checkpoint_bytes, extra_share
from vjepa_exp.graph.stage import Stage
from vjepa_exp.spec.cluster import ClusterSpec
from vjepa_exp.spec.datasets import Registry
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.execution import ExecutionSpec
from vjepa_exp.spec.stages import PretrainRecipe, ProbeRecipe

Range = tuple[float, float]
HOUR = 3600.0
GRADIENT = 4
"""Bytes of a parameter's gradient that are summed over the workers."""
STAGE_START_S = 30.0
"""From free GPUs to the first step; a stage on Ray that runs already (docs/design.md, benchmarks/restart.py)."""
VIDEO_BYTES = (0.66e6, 2.4e6)
"""Of a video of 10 s at 340x256, as `data prepare` writes it and as found (benchmarks/results/data_plane_2cores)."""
IMAGE_BYTES = (0.1e6, 0.15e6)
ASSUMED = (
    f"a stage trains {STAGE_START_S:.0f} s after its GPUs are free; a video has {VIDEO_BYTES[0] / 1e6:g}-"
    f"{VIDEO_BYTES[1] / 1e6:g} MB (10 s, 340x256), an image {IMAGE_BYTES[0] / 1e6:g}-{IMAGE_BYTES[1] / 1e6:g} MB"
)


@dataclass(frozen=True)
class Checkpoints:
    """Checkpoints of a pretraining or a probe."""

    size_bytes: int
    write_s: float
    """At the storage's speed."""
    interval_s: Range
    """Between two, at best and at worst; the test of a probe counts as one where it is longer."""
    steps: int
    best_steps: Range | None
    """Steps between two with which least is lost, at worst and at best; None where no rate of losses is stated."""


@dataclass(frozen=True)
class Demand:
    """A stage on a cluster of which it has as much as it asks for."""

    gpus: int
    least_gpus: int
    """With which it would fit in memory."""
    nodes: int
    decode_nodes: int
    cpus: int
    """Logical ones that its processes hold."""
    micro_batch: int | None
    """With which it fits in memory where it does not as configured, else None."""
    memory_bytes: int
    """Of one GPU, with that micro-batch."""
    compute_hours: Range | None
    """What the GPUs alone would take. None: the size of a data set is not known."""
    hours: Range | None
    """With decoding and network, without losses and checkpoints."""
    limit: str
    """What its hours are those of: 'compute', 'decoding', or 'decoding at worst'."""
    cores_per_gpu: Range | None
    """For decoding, to keep a GPU fed."""
    reduced_bytes: float
    """Of gradients that a node sends and receives in a step; 0 on one node."""
    network_bytes_per_s: float | None
    """Into a GPU node at best speed: gradients, and clips that are decoded elsewhere."""
    read_bytes_per_s: Range | None
    """Files of videos and images."""
    checkpoints: Checkpoints | None
    """None: the stage writes none that would spare it much, and begins anew after a loss."""
    extra: Range
    """Expected share of time for losses and checkpoints, at best and at worst."""
    node_hours: Range | None
    """Shares of GPU nodes, extra included."""
    decode_node_hours: Range | None
    price: Range | None
    """USD, without the head. None: not configured."""


def demand(stage: Stage, cost: StageCost, execution: ExecutionSpec, cluster: ClusterSpec, registry: Registry) -> Demand:
    """What a stage asks of a cluster.

    Raises:
        UserError: the cluster is too small for it.
    """
    group, gpus = cluster.gpu, execution.workers
    _check_size(stage, execution, cluster)
    micro_batch, memory = _fitting(stage, cost, execution, cluster, registry)
    if micro_batch is not None:
        execution = execution.model_copy(update={"micro_batch": micro_batch})
    nodes, cpus = ceil(gpus / group.gpus_per_node), gpus * (1 + execution.decoders)
    elsewhere = max(0, cpus - nodes * group.cpus)
    decode_nodes = ceil(elsewhere / cluster.decode.cpus) if cluster.decode else 0
    device = cluster_device(cluster)
    steps = stage.recipe.pretrain.optim.iterations if isinstance(stage.recipe, PretrainRecipe) else 0
    reduced = 2 * (gpus - 1) / gpus * cost.parameters * GRADIENT if nodes > 1 and steps else 0.0
    waiting = steps * reduced * 8e-9 / group.network_gbit_per_s / HOUR if group.network_gbit_per_s else 0.0
    computing = hours([cost], device, gpus)
    span, limit = _span(computing, _decoding_hours(cost, execution), waiting)
    moved = steps * reduced + (cost.decoded_bytes or 0) / nodes * min(1.0, elsewhere / (cpus - gpus))
    checkpoints = _checkpoints(stage, cost, execution, cluster, span, nodes)
    extra = _extra(span, checkpoints, cluster, nodes)
    on_gpus, on_others = _node_hours(span, extra, gpus / group.gpus_per_node), _node_hours(span, extra, decode_nodes)
    return Demand(
        gpus=gpus,
        least_gpus=_least(stage, execution, cluster, registry),
        nodes=nodes,
        decode_nodes=decode_nodes,
        cpus=cpus,
        micro_batch=micro_batch,
        memory_bytes=memory,
        compute_hours=computing,
        hours=span,
        limit=limit,
        cores_per_gpu=decode_cores(cost, device, 1),
        reduced_bytes=reduced,
        network_bytes_per_s=moved / (span[0] * HOUR) if span and span[0] else None,
        read_bytes_per_s=_reading(stage, cost, span),
        checkpoints=checkpoints,
        extra=extra,
        node_hours=on_gpus,
        decode_node_hours=on_others,
        price=_price(on_gpus, on_others, cluster),
    )


def cluster_device(cluster: ClusterSpec) -> Device:
    """The GPU of a cluster's GPU nodes."""
    name, memory = cluster.gpu.accelerator, cluster.gpu.gpu_memory_gb
    return replace(GPUS[name], name=f"{name} {memory}GB", memory_bytes=memory * 10**9)


def restart_s(cluster: ClusterSpec) -> float:
    """From the loss of a node until its stage trains again, the reading of a checkpoint left out."""
    return 60 * cluster.gpu.start_minutes + STAGE_START_S


def _check_size(stage: Stage, execution: ExecutionSpec, cluster: ClusterSpec) -> None:
    """Refuse a stage that would wait for ever."""
    group, gpus, decode = cluster.gpu, execution.workers, cluster.decode
    if gpus > (there := group.max_nodes * group.gpus_per_node):
        raise UserError(
            f"{stage.id} asks for {gpus} GPUs (execution.workers), cluster '{cluster.name}' has {there} at most: lower "
            "execution.workers or raise gpu.max_nodes"
        )
    cpus = gpus * (1 + execution.decoders)
    if cpus > (cores := group.max_nodes * group.cpus + (decode.max_nodes * decode.cpus if decode else 0)):
        raise UserError(
            f"{stage.id} holds {cpus} CPUs (execution.workers {gpus}, each with {execution.decoders} of "
            f"execution.decode_workers {execution.decode_workers}), cluster '{cluster.name}' has {cores} at most: "
            "lower execution.decode_workers or raise decode.max_nodes"
        )
    if isinstance(stage.recipe, PretrainRecipe) and (batch := stage.recipe.pretrain.optim.batch_size) < gpus:
        raise UserError(
            f"{stage.id}: {gpus} workers are more than the {batch} clips of a step: lower execution.workers"
        )


def _fitting(
    stage: Stage, cost: StageCost, execution: ExecutionSpec, cluster: ClusterSpec, registry: Registry
) -> tuple[int | None, int]:
    """The largest micro-batch that fits where the configured one does not, and the memory of one GPU.

    Raises:
        UserError: not even a single clip fits.
    """
    limit = cluster.gpu.gpu_memory_gb * 10**9
    if cost.memory_bytes <= limit:
        return None, cost.memory_bytes

    def memory(micro_batch: int) -> int:
        return _memory(stage, execution.model_copy(update={"micro_batch": micro_batch}), registry)

    fits = bisect_right(range(1, (execution.micro_batch or _whole(stage)) + 1), limit, key=memory)
    if not fits:
        raise UserError(
            f"{stage.id} needs {memory(1) / 1e9:.0f} GB of a GPU with execution.micro_batch=1, those of cluster "
            f"'{cluster.name}' have {cluster.gpu.gpu_memory_gb}: --set execution.parallel=fsdp or --set "
            "execution.activation_checkpointing=true, more execution.workers, or a GPU with more memory"
        )
    return fits, memory(fits)


def _whole(stage: Stage) -> int:
    """Clips of a forward pass where no micro-batch is set."""
    if isinstance(stage.recipe, PretrainRecipe):
        return stage.recipe.pretrain.mask_group_size
    return stage.recipe.probe.optim.batch_size if isinstance(stage.recipe, ProbeRecipe) else 1


def _memory(stage: Stage, execution: ExecutionSpec, registry: Registry) -> int:
    cost = cost_of(stage, execution, registry)
    assert cost is not None
    return cost.memory_bytes


def _least(stage: Stage, execution: ExecutionSpec, cluster: ClusterSpec, registry: Registry) -> int:
    """The least number of workers that divides the batch and with which the stage fits."""
    if not isinstance(stage.recipe, PretrainRecipe):
        return 1  # the memory of what is not pretrained does not depend on the workers
    batch, limit = stage.recipe.pretrain.optim.batch_size, cluster.gpu.gpu_memory_gb * 10**9
    counts = (count for count in range(1, execution.workers) if batch % count == 0)
    fits = (
        count for count in counts if _memory(stage, execution.model_copy(update={"workers": count}), registry) <= limit
    )
    return next(fits, execution.workers)


def _span(computing: Range | None, decoding: Range, waiting: float) -> tuple[Range | None, str]:
    """Hours of a stage, and what they are those of.

    Args:
        computing: of the GPUs alone.
        decoding: of the decoders alone, which work at the same time.
        waiting: for gradients of other nodes, if that were never hidden behind computing.
    """
    if computing is None:
        return None, "compute"
    span = max(computing[0], decoding[0]), max(computing[1] + waiting, decoding[1])
    if decoding[0] > computing[0]:
        return span, "decoding"
    return span, "decoding at worst" if decoding[1] > computing[1] + waiting else "compute"


def _decoding_hours(cost: StageCost, execution: ExecutionSpec) -> Range:
    """What the stage's decoding processes would take alone, at best and at worst."""
    slow, fast = IMAGES_PER_CORE if cost.images else VIDEO_CLIPS_PER_CORE
    clips_per_core = (cost.clips or 0) / (execution.workers * execution.decoders)
    return clips_per_core / fast / HOUR, clips_per_core / slow / HOUR


def _reading(stage: Stage, cost: StageCost, span: Range | None) -> Range | None:
    if not span or not span[0]:
        return None
    together = stage.recipe.probe.clips if isinstance(stage.recipe, ProbeRecipe) else 1  # clips of one file
    small, large = IMAGE_BYTES if cost.images else VIDEO_BYTES
    files = (cost.clips or 0) / together
    return files * small / (span[1] * HOUR), files * large / (span[0] * HOUR)


def _checkpoints(
    stage: Stage, cost: StageCost, execution: ExecutionSpec, cluster: ClusterSpec, span: Range | None, nodes: int
) -> Checkpoints | None:
    if not isinstance(stage.recipe, PretrainRecipe | ProbeRecipe) or not cost.kept_steps or span is None:
        return None
    size = checkpoint_bytes(stage.recipe, cost.parameters * cost.kept_together)
    write_s = size / (cluster.storage.mb_per_s * 1e6)
    step_s = [cost.kept_share * hours * HOUR / cost.kept_steps for hours in span]
    tests = [(1 - cost.kept_share) * hours * HOUR for hours in span]
    every = min(execution.checkpoint_every, cost.kept_steps)
    fast, slow = (max(every * step, test) for step, test in zip(step_s, tests, strict=True))
    rate, best = _rate(cluster, nodes), None
    if rate:
        interval = best_interval(rate, write_s)
        best = interval / step_s[1], interval / step_s[0]
    return Checkpoints(size, write_s, (fast, slow), execution.checkpoint_every, best)


def _extra(span: Range | None, checkpoints: Checkpoints | None, cluster: ClusterSpec, nodes: int) -> Range:
    rate, again = _rate(cluster, nodes), restart_s(cluster)
    if checkpoints is None:
        low, high = (extra_share(rate, hours * HOUR, again, 0) if hours else 0.0 for hours in span or (0.0, 0.0))
    else:
        written = checkpoints.write_s
        shares = [extra_share(rate, interval, again + written, written) for interval in checkpoints.interval_s]
        low, high = min(shares), max(shares)
    return low, high


def _rate(cluster: ClusterSpec, nodes: int) -> float:
    """Interruptions of a stage in a second."""
    return (cluster.gpu.interruptions_per_node_hour or 0.0) * nodes / HOUR


def _node_hours(span: Range | None, extra: Range, nodes: float) -> Range | None:
    if span is None:
        return None
    return span[0] * (1 + extra[0]) * nodes, span[1] * (1 + extra[1]) * nodes


def _price(on_gpus: Range | None, on_others: Range | None, cluster: ClusterSpec) -> Range | None:
    price, other = cluster.gpu.price, cluster.decode.price if cluster.decode else None
    if on_gpus is None or on_others is None or price is None or (on_others[1] and other is None):
        return None
    return on_gpus[0] * price + on_others[0] * (other or 0), on_gpus[1] * price + on_others[1] * (other or 0)
