"""The stages of a plan as tasks of a simulation, in the turns in which `run` does them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import groupby
from math import inf

from vjepa_exp.graph.demand import HOUR, STAGE_START_S, Demand
from vjepa_exp.graph.fleet import Fleet
from vjepa_exp.graph.joint import together
from vjepa_exp.graph.packs import share_passes
from vjepa_exp.graph.plan import Plan
from vjepa_exp.graph.simulate import Task
from vjepa_exp.graph.stage import Stage
from vjepa_exp.spec.cluster import ClusterSpec
from vjepa_exp.spec.errors import UserError

DemandOf = Callable[[Stage], Demand | None]


class Order(StrEnum):
    """What waits for what."""

    AS_RUN = "as run does it"
    """All pretraining of all studies, then all that stands on it."""
    FREE = "no level waits"
    """A stage waits for its own encoder alone; the longest chains are begun first."""


@dataclass(frozen=True)
class Work:
    """Tasks of a plan with the stages of each, those first whose pass of the encoder the others share."""

    tasks: tuple[Task, ...]
    stages: tuple[tuple[Stage, ...], ...]
    unknown: tuple[Stage, ...]
    """Stages without an estimate, left out."""


def lay_out(plans: Sequence[Plan], done: Collection[str], demand_of: DemandOf, worst: bool) -> Work:
    """The tasks of some plans in the order and the packs in which `run` does them.

    Args:
        plans: that are run together.
        done: fingerprints of stages that are in the store.
        demand_of: what a stage asks for, None where that is not known.
        worst: take the hours of the worst assumptions, else of the best ones.
    """
    tasks, packs, unknown, seen, turn = list[Task](), list[tuple[Stage, ...]](), list[Stage](), set(done), 0
    made = dict[str, int]()
    for joint in together(plans):
        execution = joint.execution
        for _, level in groupby(joint.doable, key=lambda stage: stage.level):
            ready = [stage for stage in level if stage.fingerprint not in seen and stage.level]
            for pack in share_passes(ready, execution.probes_per_pass):
                asked = [demand_of(stage) for stage in pack]
                known = [one for one in asked if one is not None and one.hours is not None]
                unknown += [stage for stage, one in zip(pack, asked, strict=True) if one is None or one.hours is None]
                if not known:
                    continue
                needs = {made[one.fingerprint] for stage in pack for one in stage.inputs if one.fingerprint in made}
                made |= {stage.fingerprint: len(tasks) for stage in pack}
                task = _task(pack, known, turn, tuple(sorted(needs)), worst)
                tasks.append(replace(task, at_once=execution.concurrent_trials or inf))
                packs.append(pack)
            seen |= {stage.fingerprint for stage in ready}
            turn += 1
    return Work(tuple(tasks), tuple(packs), tuple(unknown))


def _task(pack: Sequence[Stage], asked: Sequence[Demand], turn: int, needs: tuple[int, ...], worst: bool) -> Task:
    training = sum(one.hours[worst] * HOUR for one in asked if one.hours is not None)
    checkpoint_s, seconds = inf, training
    if (checkpoints := asked[0].checkpoints) is not None:
        checkpoint_s = checkpoints.interval_s[worst] + checkpoints.write_s
        seconds += training / checkpoints.interval_s[worst] * checkpoints.write_s
    name = pack[0].id if len(pack) == 1 else f"{pack[0].id} and {len(pack) - 1} more"
    return Task(name, asked[0].gpus, asked[0].cpus, seconds, turn, needs, checkpoint_s)


def ordered(work: Work, order: Order) -> tuple[Task, ...]:
    """The tasks with the turns and ranks of an order."""
    if order is Order.AS_RUN:
        return work.tasks
    chains = chains_from(work.tasks)
    return tuple(replace(task, turn=0, rank=-chain) for task, chain in zip(work.tasks, chains, strict=True))


def chains_from(tasks: Sequence[Task]) -> list[float]:
    """For each task the seconds of the longest chain that begins with it."""
    chains = [task.seconds + STAGE_START_S for task in tasks]
    for i in reversed(range(len(tasks))):  # what a task stands on comes before it
        for needed in tasks[i].needs:
            chains[needed] = max(chains[needed], tasks[needed].seconds + STAGE_START_S + chains[i])
    return chains


def longest_chain(tasks: Sequence[Task]) -> list[int]:
    """Places of the tasks of the longest chain, the first one first."""
    chains, chain = chains_from(tasks), list[int]()
    following = set(range(len(tasks)))
    while following:
        chain.append(max(following, key=lambda i: (chains[i], -i)))
        following = {i for i, task in enumerate(tasks) if chain[-1] in task.needs}
    return chain


def fleet_of(cluster: ClusterSpec, gpus: int) -> Fleet:
    """A cluster with so many GPUs at most; its nodes for decoding grow or shrink in proportion.

    Raises:
        UserError: the number is not one of whole nodes.
    """
    group, decode = cluster.gpu, cluster.decode
    if gpus % group.gpus_per_node or not gpus:
        raise UserError(f"--simulate {gpus}: a node of cluster '{cluster.name}' has {group.gpus_per_node} GPUs")
    nodes = gpus // group.gpus_per_node
    return Fleet(
        gpus_per_node=group.gpus_per_node,
        max_nodes=nodes,
        cpus_per_node=group.cpus,
        decode_cpus=decode.cpus if decode else 0,
        max_decode_nodes=round(decode.max_nodes * nodes / group.max_nodes) if decode else 0,
        min_nodes=min(group.min_nodes, nodes),
        start_s=60 * group.start_minutes,
        idle_s=60 * cluster.idle_timeout_minutes,
        stage_start_s=STAGE_START_S,
        interruptions_per_s=(group.interruptions_per_node_hour or 0.0) / HOUR,
    )
