"""What the paper's stages ask of a cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from vjepa_exp.graph.cost import GPUS, hours, stage_cost
from vjepa_exp.graph.demand import Demand, demand, restart_s
from vjepa_exp.graph.losses import extra_share
from vjepa_exp.graph.plan import Plan, build_plan
from vjepa_exp.graph.stage import Stage
from vjepa_exp.spec.augment import NoAugment
from vjepa_exp.spec.cluster import ClusterSpec, DecodeGroup, GpuGroup, NodePrice, StorageSpec, read_cluster
from vjepa_exp.spec.datasets import Registry
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.execution import ExecutionSpec
from vjepa_exp.spec.load import read_experiment, resolve
from vjepa_exp.spec.stages import ProbeRecipe
from vjepa_exp.spec.sweep import ProbeSweep
from vjepa_exp.spec.vary import Grid

ROOT = Path(__file__).parents[3]
REGISTRY = Registry(Path("no datasets.yaml"))
PRICE = NodePrice(on_demand=10.0, spot=3.0, source="made up for a test")
Asks = Callable[..., Demand]


@pytest.fixture(scope="module")
def plan() -> Plan:
    return build_plan(resolve(read_experiment(ROOT / "experiments/table6_frozen.yaml"), "paper"), REGISTRY)


def find(plan: Plan, kind: str, arch: str, resolution: int = 224) -> Stage:
    return next(
        stage
        for stage in plan.stages
        if stage.kind == kind
        and stage.recipe.model.arch == arch  # type: ignore[union-attr]
        and (stage.recipe.pretrain.data.clip if kind == "pretrain" else stage.recipe.probe.clip).resolution  # type: ignore[union-attr]
        == resolution
    )


def cluster(gpu: dict[str, object] | None = None, **changes: object) -> ClusterSpec:
    """Four nodes of eight A100 of 80 GB, and eight for decoding."""
    group = {
        "accelerator": "A100",
        "gpu_memory_gb": 80,
        "gpus_per_node": 8,
        "cpus": 96,
        "memory_gib": 1000,
        "max_nodes": 4,
    }
    spec, _ = read_cluster(ROOT / "clusters/kuberay-a100.yaml")
    gpus = GpuGroup.model_validate({**group, **(gpu or {})})
    return spec.model_copy(update={"gpu": gpus, "decode": DecodeGroup(max_nodes=8, cpus=40, memory_gib=72), **changes})


@pytest.fixture
def asks(plan: Plan) -> Asks:
    def asks(stage: Stage, where: ClusterSpec, decoders: int = 10, **execution: object) -> Demand:
        settings = plan.experiment.experiment.execution.model_copy(update=execution)
        settings = settings.model_copy(update={"decode_workers": decoders * settings.workers})
        cost = stage_cost(stage, settings, REGISTRY)
        assert cost is not None
        return demand(stage, cost, settings, where, REGISTRY)

    return asks


def test_a_stage_takes_the_workers_of_the_execution_and_says_how_many_would_do(plan: Plan, asks: Asks) -> None:
    large = find(plan, "pretrain", "vit_large")
    found = asks(large, cluster())
    assert (found.gpus, found.nodes, found.least_gpus) == (8, 1, 1)
    assert asks(large, cluster(), workers=16).nodes == 2
    small = asks(large, cluster({"gpu_memory_gb": 40}))
    assert small.least_gpus == 2
    assert asks(large, cluster({"gpu_memory_gb": 40}), workers=2).memory_bytes <= 40e9


def test_a_micro_batch_that_does_not_fit_is_planned_as_large_as_fits(plan: Plan, asks: Asks) -> None:
    huge = find(plan, "pretrain", "vit_huge", 384)
    small = asks(huge, cluster({"gpu_memory_gb": 40}), micro_batch=10)
    assert small.micro_batch is not None
    assert small.memory_bytes <= 40e9
    larger = ExecutionSpec(workers=8, micro_batch=small.micro_batch + 1)
    cost = stage_cost(huge, larger, REGISTRY)
    assert cost is not None
    assert cost.memory_bytes > 40e9
    assert asks(huge, cluster(), micro_batch=small.micro_batch).micro_batch is None


@pytest.mark.parametrize(
    ("arch", "resolution", "gpu", "execution", "words"),
    [
        ("vit_large", 224, {}, {"workers": 64}, r"asks for 64 GPUs \(execution.workers\).* has 32 at most"),
        ("vit_large", 224, {}, {"decoders": 200}, r"holds 1608 CPUs .* has 704 at most: lower execution.decode"),
        (
            "vit_large",
            224,
            {"max_nodes": 400},
            {"workers": 3073},
            "3073 workers are more than the 3072 clips of a step",
        ),
        ("vit_huge", 384, {"gpu_memory_gb": 40}, {"workers": 1}, r"needs \d+ GB of a GPU with execution.micro_batch=1"),
    ],
)
def test_a_cluster_that_is_too_small_is_one_line(
    plan: Plan, asks: Asks, arch: str, resolution: int, gpu: dict[str, object], execution: dict[str, object], words: str
) -> None:
    stage = find(plan, "pretrain", arch, resolution)
    with pytest.raises(UserError, match=words) as error:
        asks(stage, cluster(gpu), **execution)
    assert str(error.value).startswith(stage.id)
    assert "\n" not in str(error.value)


def test_decoders_of_a_stage_are_shared_by_its_workers() -> None:
    assert [ExecutionSpec(workers=n, decode_workers=64).decoders for n in (1, 8, 12, 100)] == [64, 8, 6, 1]


def test_enough_decoders_leave_the_hours_to_the_gpus(plan: Plan, asks: Asks) -> None:
    large = find(plan, "pretrain", "vit_large")
    cost = stage_cost(large, plan.experiment.experiment.execution, REGISTRY)
    fed = asks(large, cluster(), decoders=20)
    assert fed.limit == "compute"
    assert fed.hours == fed.compute_hours == hours([cost], GPUS["A100"], 8)
    assert fed.decode_nodes == 2  # 8 x 21 CPUs are 72 more than the node has
    assert fed.network_bytes_per_s is not None
    assert fed.network_bytes_per_s > 0


def test_too_few_decoders_are_the_limit(plan: Plan, asks: Asks) -> None:
    large = find(plan, "pretrain", "vit_large")
    starved = asks(large, cluster(), decoders=1)
    assert starved.limit == "decoding"
    clips = 90_000 * 3072
    assert starved.hours == (pytest.approx(clips / 8 / 25 / 3600), pytest.approx(clips / 8 / 8 / 3600))
    assert starved.cores_per_gpu is not None
    low, high = starved.cores_per_gpu
    best, worst = high * 8 / 25, low * 25 / 8  # fast GPUs and fast decoders; slow GPUs and slow decoders
    assert best < 3 < worst
    assert asks(large, cluster(), decoders=3).limit == "decoding at worst"
    assert asks(large, cluster(), decoders=int(worst) + 1).limit == "compute"


def test_gradients_leave_a_node_only_where_a_stage_does(plan: Plan, asks: Asks) -> None:
    large = find(plan, "pretrain", "vit_large")
    parameters = 303_885_312 + 22_082_944
    assert asks(large, cluster(), decoders=11).reduced_bytes == 0
    wide = asks(large, cluster(), workers=16, decoders=11)
    assert wide.reduced_bytes == 2 * 15 / 16 * parameters * 4
    assert wide.hours is not None
    slow = asks(large, cluster({"network_gbit_per_s": 10.0}), workers=16, decoders=11)
    waiting = 90_000 * wide.reduced_bytes * 8 / 10e9 / 3600
    assert slow.hours == (wide.hours[0], pytest.approx(wide.hours[1] + waiting))


def test_what_is_read(plan: Plan, asks: Asks) -> None:
    """A probe decodes eight clips of a video that it reads once."""
    probe = find(plan, "probe", "vit_large")
    found = asks(probe, cluster())
    assert probe.recipe.probe.clips == 8  # type: ignore[union-attr]
    assert found.hours is not None
    assert found.read_bytes_per_s is not None
    videos = 20 * 240_000 + 3 * 20_000
    assert found.read_bytes_per_s[0] == pytest.approx(videos * 0.66e6 / (3600 * found.hours[1]))


def test_losses_follow_rate_nodes_and_interval(plan: Plan, asks: Asks) -> None:
    large = find(plan, "pretrain", "vit_large")
    storage = StorageSpec(uri="nfs://10.0.0.2/vjepa", mb_per_s=1000.0)
    where = cluster({"interruptions_per_node_hour": 0.02}, storage=storage)
    found = asks(large, where, workers=16, decoders=11)
    points = found.checkpoints
    assert points is not None
    assert points.size_bytes == 12 * (303_885_312 + 22_082_944) + 4 * 303_885_312
    assert points.write_s == points.size_bytes / 1e9
    assert found.hours is not None
    assert points.interval_s == tuple(pytest.approx(1000 * span * 3600 / 90_000) for span in found.hours)
    rate, again = 2 * 0.02 / 3600, restart_s(where) + points.write_s
    assert found.extra[1] == pytest.approx(extra_share(rate, points.interval_s[1], again, points.write_s))
    assert points.best_steps is not None
    quiet = asks(large, cluster(storage=storage), workers=16, decoders=11)
    assert quiet.checkpoints is not None
    assert quiet.checkpoints.best_steps is None
    assert quiet.extra[1] == pytest.approx(points.write_s / points.interval_s[0])


def test_a_probe_loses_what_lies_behind_its_checkpoint_or_its_test(plan: Plan, asks: Asks) -> None:
    probe = find(plan, "probe", "vit_huge", 384)
    assert isinstance(probe.recipe, ProbeRecipe)
    steps = 20 * (240_000 // probe.recipe.probe.optim.batch_size)
    share = 20 * 240_000 / (20 * 240_000 + 3 * 20_000)
    for every, tested in ((1000, False), (10, True)):
        found = asks(probe, cluster({"interruptions_per_node_hour": 0.02}), checkpoint_every=every)
        assert found.hours is not None
        assert found.checkpoints is not None
        long = found.hours[1] * 3600
        expected = (1 - share) * long if tested else share * long * every / steps
        assert found.checkpoints.interval_s[1] == pytest.approx(expected)
        assert found.extra[1] < 0.2


def test_a_sweep_keeps_the_candidates_of_a_round(plan: Plan, asks: Asks) -> None:
    """They take their steps together, so a loss costs as many of them as a probe's."""
    stage = find(plan, "probe", "vit_huge", 384)
    assert isinstance(stage.recipe, ProbeRecipe)
    sweep = ProbeSweep(space={"lr": Grid(kind="grid", values=(1e-3, 3e-4, 1e-4))})
    probe = stage.recipe.probe.model_copy(update={"sweep": sweep})
    swept = replace(stage, recipe=stage.recipe.model_copy(update={"probe": probe}))
    where = cluster({"interruptions_per_node_hour": 0.02})
    alone, found = (asks(one, where, checkpoint_every=1000) for one in (stage, swept))
    assert alone.checkpoints is not None
    assert found.checkpoints is not None
    assert found.checkpoints.size_bytes == 3 * alone.checkpoints.size_bytes
    assert found.checkpoints.interval_s[1] == pytest.approx(alone.checkpoints.interval_s[1], rel=0.05)
    assert alone.hours is not None
    assert found.hours is not None
    assert found.hours[1] > 1.8 * alone.hours[1]


def test_a_probe_on_fixed_clips_begins_anew(plan: Plan, asks: Asks) -> None:
    """Nearly all of it is one pass of the encoder, which no checkpoint holds."""
    stage = find(plan, "probe", "vit_huge", 384)
    assert isinstance(stage.recipe, ProbeRecipe)
    fixed = stage.recipe.probe.model_copy(update={"augment": NoAugment()})
    where = cluster({"interruptions_per_node_hour": 0.02})
    found = asks(replace(stage, recipe=stage.recipe.model_copy(update={"probe": fixed})), where)
    assert found.checkpoints is None
    assert found.hours is not None
    assert found.extra[1] == extra_share(0.02 / 3600, found.hours[1] * 3600, restart_s(where), 0)


def test_the_price_is_that_of_the_nodes_or_none(plan: Plan, asks: Asks) -> None:
    large = find(plan, "pretrain", "vit_large")
    assert asks(large, cluster(), decoders=11).price is None
    on_demand, spot = (cluster({"price_per_hour": PRICE.model_dump(), "spot": spot}) for spot in (False, True))
    found = asks(large, on_demand, decoders=11)
    assert found.node_hours is not None
    assert found.price == tuple(pytest.approx(10 * value) for value in found.node_hours)
    assert asks(large, spot, decoders=11).price == tuple(pytest.approx(3 * value) for value in found.node_hours)
    assert asks(large, on_demand, decoders=20).price is None  # nodes for decoding have a price of their own
    decode = DecodeGroup(max_nodes=8, cpus=40, memory_gib=72, price_per_hour=PRICE)
    both = asks(large, on_demand.model_copy(update={"decode": decode}), decoders=20)
    assert both.decode_node_hours is not None
    assert both.node_hours is not None
    assert both.price == tuple(
        pytest.approx(10 * a + 10 * b) for a, b in zip(both.node_hours, both.decode_node_hours, strict=True)
    )
    half = asks(large, on_demand, workers=4, decoders=11)
    assert half.node_hours is not None
    assert half.node_hours[0] == pytest.approx(found.node_hours[0], rel=1e-3)  # half a node for twice the time
