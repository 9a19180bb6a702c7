"""The simulation against hand-made graphs whose makespan is known, and what must hold for any graph."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest

from vjepa_exp.graph.fleet import Fleet
from vjepa_exp.graph.simulate import Simulation, Task, simulate

ONE = Fleet(gpus_per_node=8, max_nodes=1, cpus_per_node=96)


def task(seconds: float, gpus: int = 8, **more: object) -> Task:
    return Task("t", gpus, gpus, seconds, **more)  # type: ignore[arg-type]


def some_tasks(seed: int, count: int = 40) -> list[Task]:
    """Chains, turns and checkpoints at random."""
    random = Random(seed)
    return [
        task(
            random.uniform(10, 5000),
            random.choice((1, 2, 4, 8, 16)),
            turn=i // 15,
            needs=tuple({random.randrange(i)} if i and random.random() < 0.5 else ()),
            checkpoint_s=random.choice((200.0, 900.0)),
        )
        for i in range(count)
    ]


def check(run: Simulation, tasks: list[Task]) -> None:
    """What holds whatever happens: nothing is lost sight of, nothing is in two places, nothing is too early."""
    assert run.useful_gpu_s == pytest.approx(sum(one.gpus * one.seconds for one in tasks))
    assert run.busy_gpu_s == pytest.approx(run.useful_gpu_s + run.lost_gpu_s)
    assert run.busy_gpu_s <= run.paid_gpu_s + 1e-6
    assert all(0 <= m.busy_gpus <= m.nodes * run.fleet.gpus_per_node for m in run.moments)
    assert all(m.nodes <= run.fleet.max_nodes for m in run.moments)
    assert all(before.time_s <= after.time_s for before, after in pairwise(run.moments))
    assert max(end for _, end in run.spans) == run.makespan_s
    for (start, end), one in zip(run.spans, tasks, strict=True):
        assert end - start >= one.seconds - 1e-6
        assert all(run.spans[needed][1] <= start + 1e-6 for needed in one.needs)
        earlier = [span[1] for span, other in zip(run.spans, tasks, strict=True) if other.turn < one.turn]
        assert max(earlier, default=0.0) <= start + 1e-6


def test_a_chain_takes_the_sum() -> None:
    tasks = [task(100), task(50, needs=(0,)), task(25, needs=(1,))]
    run = simulate(tasks, replace(ONE, max_nodes=4))
    assert run.makespan_s == pytest.approx(175)
    assert run.spans == ((0, 100), (100, 150), (150, 175))
    check(run, tasks)


def test_equal_stages_fill_the_cluster_in_waves() -> None:
    tasks = [task(100)] * 5
    assert simulate(tasks, replace(ONE, max_nodes=2)).makespan_s == pytest.approx(300)
    assert simulate(tasks, replace(ONE, max_nodes=5)).makespan_s == pytest.approx(100)
    assert simulate(tasks, replace(ONE, max_nodes=5)).utilisation == pytest.approx(1)


def test_a_turn_waits_for_the_last_one_before_it() -> None:
    tasks = [task(100), task(10), task(30, turn=1), task(30, turn=1)]
    assert simulate(tasks, replace(ONE, max_nodes=2)).makespan_s == pytest.approx(130)
    free = [replace(one, turn=0) for one in tasks]
    assert simulate(free, replace(ONE, max_nodes=2)).makespan_s == pytest.approx(100)


def test_no_more_stages_at_a_time_than_are_wanted() -> None:
    run = simulate([task(100, at_once=2)] * 6, replace(ONE, max_nodes=4))
    assert run.makespan_s == pytest.approx(300)
    assert max(moment.nodes for moment in run.moments) == 2


def test_what_needs_less_than_a_node_shares_one() -> None:
    tasks = [task(100, gpus=4), task(100, gpus=2), task(100, gpus=2), task(40, gpus=8)]
    run = simulate(tasks, ONE)
    assert run.makespan_s == pytest.approx(140)
    assert run.paid_gpu_s == pytest.approx(8 * 140)


def test_what_needs_more_than_a_node_takes_several() -> None:
    run = simulate([task(100, gpus=20)], replace(ONE, max_nodes=3))
    assert (run.makespan_s, run.paid_gpu_s) == (pytest.approx(100), pytest.approx(2400))


def test_cpus_limit_as_gpus_do_until_nodes_for_decoding_help() -> None:
    tasks = [Task("t", 2, 60, 100.0), Task("t", 2, 60, 100.0)]
    assert simulate(tasks, ONE).makespan_s == pytest.approx(200)
    helped = simulate(tasks, replace(ONE, decode_cpus=12, max_decode_nodes=4))
    assert helped.makespan_s == pytest.approx(100)
    assert helped.decode_node_s == pytest.approx(2 * 100)  # 120 CPUs, of which 96 are on the GPU node
    with pytest.raises(ValueError, match="t asks for 2 GPUs and 97 CPUs of 8 and 96"):
        simulate([Task("t", 2, 97, 1.0)], ONE)
    with pytest.raises(ValueError, match="t asks for 9 GPUs"):
        simulate([Task("t", 9, 1, 1.0)], ONE)


def test_nodes_start_late_stay_a_while_and_come_back() -> None:
    """A pause of 1000 s on the second node is longer than it may be idle, one of 50 s is not."""
    tasks = [task(100), task(1000, turn=1), task(100, turn=2), task(100, turn=2)]
    fleet = replace(ONE, max_nodes=2, start_s=60, idle_s=200)
    first = [task(100), *tasks]
    run = simulate(first, fleet)
    assert run.makespan_s == pytest.approx(60 + 100 + 1000 + 60 + 100)
    nodes = 60 + 100 + 200 + 60 + 100 + 200  # of the second: start, stage, idle, and all again
    assert run.node_s == pytest.approx(run.makespan_s + 200 + nodes)
    short = [replace(one, seconds=50) if one.seconds == 1000 else one for one in first]
    assert simulate(short, fleet).makespan_s == pytest.approx(60 + 100 + 50 + 100)


def test_a_node_that_waits_for_a_slow_one_stays() -> None:
    run = simulate([task(10), task(10, turn=1, gpus=16)], replace(ONE, max_nodes=2, start_s=300, idle_s=60))
    assert run.makespan_s == pytest.approx(300 + 10 + 300 + 10)


def test_starting_a_stage_takes_gpus_but_is_no_training() -> None:
    run = simulate([task(100), task(100)], replace(ONE, stage_start_s=30))
    assert run.makespan_s == pytest.approx(260)
    assert run.lost_gpu_s == pytest.approx(2 * 30 * 8)


def test_an_interruption_costs_what_came_after_the_last_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fleet, "life", lambda self, seed, number: 250.0 if number == 0 else 1e9)
    fleet = replace(ONE, start_s=60, stage_start_s=5)
    run = simulate([task(400, checkpoint_s=100)], fleet)
    # up at 60, trains from 65, lost at 310 with 245 s done and 200 s saved, up again at 370, 200 s left
    assert run.makespan_s == pytest.approx(60 + 250 + 60 + 5 + 200)
    assert run.lost_gpu_s == pytest.approx(8 * (5 + 45 + 5))
    assert (run.interruptions, run.restarts) == (1, (1,))
    anew = simulate([task(400)], fleet)
    assert anew.makespan_s == pytest.approx(60 + 250 + 60 + 5 + 400)


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_lost_sight_of(seed: int) -> None:
    tasks = some_tasks(seed)
    fleet = Fleet(8, 4, 96, start_s=60, idle_s=300, stage_start_s=10)
    check(simulate(tasks, fleet), tasks)
    lossy = simulate(tasks, replace(fleet, interruptions_per_s=1 / 3000), seed)
    check(lossy, tasks)
    assert lossy.interruptions > 0


def test_no_interruptions_are_the_same_as_a_rate_of_none() -> None:
    tasks, fleet = some_tasks(1), Fleet(8, 4, 96, start_s=60)
    quiet = simulate(tasks, fleet)
    assert simulate(tasks, replace(fleet, interruptions_per_s=0.0), seed=7) == quiet
    rare = simulate(tasks, replace(fleet, interruptions_per_s=1e-15), seed=7)
    assert (rare.makespan_s, rare.interruptions) == (quiet.makespan_s, 0)


def test_the_same_seed_loses_the_same_nodes() -> None:
    tasks, fleet = some_tasks(2), Fleet(8, 4, 96, interruptions_per_s=1 / 3000)
    assert simulate(tasks, fleet, 3) == simulate(tasks, fleet, 3)
    assert simulate(tasks, fleet, 3) != simulate(tasks, fleet, 4)


@pytest.mark.parametrize("seed", range(5))
def test_more_gpus_are_never_slower_for_independent_stages(seed: int) -> None:
    random = Random(seed)
    tasks = [task(random.uniform(1, 1000)) for _ in range(30)]
    spans = [simulate(tasks, replace(ONE, max_nodes=nodes)).makespan_s for nodes in range(1, 35)]
    assert all(more <= fewer for fewer, more in pairwise(spans))
    assert spans[0] == pytest.approx(sum(one.seconds for one in tasks))
    assert spans[-1] == max(one.seconds for one in tasks)


def test_the_mean_life_of_nodes_is_the_one_asked_for() -> None:
    fleet = replace(ONE, interruptions_per_s=1 / 500)
    lives = [fleet.life(0, number) for number in range(4000)]
    assert sum(lives) / len(lives) == pytest.approx(500, rel=0.05)
