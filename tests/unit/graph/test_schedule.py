"""Stages of plans as tasks: in the turns of `run`, in its packs, and in the orders that it is compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf
from pathlib import Path

import pytest

from vjepa_exp.graph.demand import HOUR, STAGE_START_S, Checkpoints, Demand
from vjepa_exp.graph.outlook import Limit, decoding_share, outlooks
from vjepa_exp.graph.plan import Plan, build_plan
from vjepa_exp.graph.schedule import Order, chains_from, fleet_of, lay_out, longest_chain, ordered
from vjepa_exp.graph.simulate import Task, simulate
from vjepa_exp.graph.stage import Stage
from vjepa_exp.spec.cluster import ClusterSpec, read_cluster
from vjepa_exp.spec.datasets import Registry
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.load import ResolvedExperiment

Load = Callable[..., ResolvedExperiment]
ASKED = Demand(
    gpus=8,
    least_gpus=1,
    nodes=1,
    decode_nodes=0,
    cpus=16,
    micro_batch=None,
    memory_bytes=1,
    compute_hours=(1.0, 2.0),
    hours=(1.0, 2.0),
    limit="compute",
    cores_per_gpu=None,
    reduced_bytes=0.0,
    network_bytes_per_s=None,
    read_bytes_per_s=None,
    checkpoints=None,
    extra=(0.0, 0.0),
    node_hours=None,
    decode_node_hours=None,
    price=None,
)


def pretraining_takes_ten(stage: Stage) -> Demand:
    return replace(ASKED, hours=(10.0, 20.0)) if stage.kind == "pretrain" else ASKED


@pytest.fixture
def plans(load: Load, tmp_path: Path) -> list[Plan]:
    """Two studies that share a pretraining; the second has one of its own, whose probes have two learning rates."""
    registry = Registry(tmp_path / "datasets.yaml")
    axes = """\
vary:
  axes:
    evaluate.looks.optim.lr: {low: 1.0e-3, high: 2.0e-3}
    pretrain.optim.warmup: {short: 2, long: 3}
"""
    return [build_plan(load(), registry), build_plan(load(axes), registry)]


def cluster(**gpu: object) -> ClusterSpec:
    spec, _ = read_cluster(Path(__file__).parents[3] / "clusters/aws-a100.yaml")
    changes = {"start_minutes": 1.0, "interruptions_per_node_hour": None, **gpu}
    return spec.model_copy(update={"gpu": spec.gpu.model_copy(update=changes)})


def test_tasks_are_those_of_run_in_its_turns(plans: list[Plan]) -> None:
    work = lay_out(plans, (), pretraining_takes_ten, worst=False)
    kinds = [{stage.kind for stage in stages} for stages in work.stages]
    assert kinds == [{"pretrain"}] * 2 + [{"probe"}] * (len(kinds) - 2)  # those of both studies first
    assert [task.turn for task in work.tasks] == sorted(task.turn for task in work.tasks)
    assert len({task.turn for task in work.tasks}) == 2
    stages = [stage.fingerprint for pack in work.stages for stage in pack]
    assert len(stages) == len(set(stages))
    assert set(stages) == {stage.fingerprint for plan in plans for stage in plan.stages if stage.level}
    for task, pack in zip(work.tasks, work.stages, strict=True):
        inputs = {one.fingerprint for stage in pack for one in stage.inputs if one.level}
        assert {stage.fingerprint for i in task.needs for stage in work.stages[i]} == inputs
    assert {task.seconds for task in work.tasks} == {10 * HOUR, HOUR, 2 * HOUR}  # a pair takes the sum of both
    assert lay_out(plans, (), pretraining_takes_ten, worst=True).tasks[0].seconds == 20 * HOUR


def test_what_is_done_is_left_out_and_what_is_not_known_is_named(plans: list[Plan]) -> None:
    done = {stage.fingerprint for stage in plans[0].stages}
    work = lay_out(plans, done, pretraining_takes_ten, worst=False)
    assert not done & {stage.fingerprint for pack in work.stages for stage in pack}
    unknown = lay_out(plans, (), lambda stage: None if stage.kind == "probe" else ASKED, worst=False)
    assert {stage.kind for stage in unknown.unknown} == {"probe"}
    assert {pack[0].kind for pack in unknown.stages} == {"pretrain"}
    with pytest.raises(UserError, match="nothing to simulate"):
        outlooks(plans, (), lambda stage: None, cluster(), [8])


def test_checkpoints_take_time_and_are_where_a_stage_goes_on(plans: list[Plan]) -> None:
    points = Checkpoints(size_bytes=1, write_s=36.0, interval_s=(360.0, 720.0), steps=10, best_steps=None)
    work = lay_out(plans[:1], (), lambda stage: replace(ASKED, checkpoints=points), worst=False)
    assert work.tasks[0].seconds == pytest.approx(HOUR * 1.1)
    assert work.tasks[0].checkpoint_s == 396.0


def test_orders_wait_for_less_and_less(plans: list[Plan]) -> None:
    work = lay_out(plans, (), pretraining_takes_ten, worst=False)
    assert {task.turn for task in ordered(work, Order.FREE)} == {0}
    fleet = fleet_of(cluster(), 64)
    spans = [simulate(ordered(work, order), fleet).makespan_s for order in Order]
    assert spans == sorted(spans, reverse=True)
    chain = 60 + 10 * HOUR + 2 * HOUR + 2 * STAGE_START_S
    assert spans[-1] == pytest.approx(chain)
    assert spans[0] <= chain + 60  # there is room for all of a level, but a node comes later
    narrow = fleet_of(cluster(), 8)
    slow = [simulate(ordered(work, order), narrow).makespan_s for order in Order]
    assert slow == sorted(slow, reverse=True)


def test_no_more_trials_at_a_time_than_the_execution_wants(load: Load, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "datasets.yaml")
    at_once = {}
    for trials in ("null", "1"):
        plan = build_plan(load("", f"execution.concurrent_trials={trials}"), registry)
        at_once[trials] = {task.at_once for task in lay_out([plan], (), pretraining_takes_ten, worst=False).tasks}
    assert at_once == {"null": {inf}, "1": {1}}


def test_the_longest_chain() -> None:
    tasks = [Task("a", 1, 1, 10), Task("b", 1, 1, 50), Task("c", 1, 1, 45, needs=(0,)), Task("d", 1, 1, 1, needs=(1,))]
    assert longest_chain(tasks) == [0, 2]
    assert chains_from(tasks) == [55 + 2 * STAGE_START_S, 51 + 2 * STAGE_START_S, 45 + STAGE_START_S, 1 + STAGE_START_S]


def test_an_outlook_adds_up_and_names_its_limit(plans: list[Plan]) -> None:
    [(best, worst), (_, small)] = outlooks(plans, (), pretraining_takes_ten, cluster(), [64, 8])
    for one in (best, worst, small):
        assert sum(one.seconds().values()) == pytest.approx(one.runs[Order.AS_RUN].makespan_s)
        assert all(run.makespan_s >= one.least_s - 1e-6 for run in one.runs.values())
        assert one.lossy is None
    assert next(iter(worst.seconds())) is Limit.CHAIN
    assert next(iter(small.seconds())) is Limit.GPUS
    assert small.share_s == pytest.approx(sum(task.seconds for task in small.work.tasks))
    assert len(worst.chain) == 2
    [(_, lossy)] = outlooks(plans, (), pretraining_takes_ten, cluster(interruptions_per_node_hour=0.05), [64])
    assert lossy.lossy is not None
    assert sum(lossy.seconds().values()) == pytest.approx(lossy.lossy.makespan_s)
    assert lossy.runs == worst.runs


def test_a_fleet_is_a_cluster_of_another_size() -> None:
    fleet = fleet_of(cluster(), 128)
    assert (fleet.max_nodes, fleet.gpus, fleet.max_decode_nodes, fleet.decode_cpus) == (16, 128, 32, 48)
    assert (fleet.start_s, fleet.idle_s) == (60, 600)
    with pytest.raises(UserError, match="--simulate 12: a node of cluster 'vjepa-a100' has 8 GPUs"):
        fleet_of(cluster(), 12)


def test_a_size_too_small_for_a_stage_is_one_line(plans: list[Plan]) -> None:
    with pytest.raises(UserError, match=r"--simulate 8: pretrain-.* asks for 16 GPUs .*: lower execution.workers"):
        outlooks(plans, (), lambda stage: replace(ASKED, gpus=16), cluster(), [8])


def test_the_share_that_waits_for_decoding() -> None:
    fed, starved = ASKED, replace(ASKED, hours=(1.0, 4.0))
    assert decoding_share([fed, starved]) == (0.0, pytest.approx(2 / 6))
