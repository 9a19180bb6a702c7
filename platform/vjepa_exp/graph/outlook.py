"""What a plan comes to on clusters of several sizes: simulated in several orders, against what cannot be beaten."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from vjepa_exp.graph.demand import Demand
from vjepa_exp.graph.fleet import Fleet
from vjepa_exp.graph.plan import Plan
from vjepa_exp.graph.schedule import DemandOf, Order, Work, chains_from, fleet_of, lay_out, longest_chain, ordered
from vjepa_exp.graph.simulate import Simulation, simulate
from vjepa_exp.spec.cluster import ClusterSpec
from vjepa_exp.spec.errors import UserError

SEED = 0
LOSSY = "as run does it, nodes lost"


class Limit(StrEnum):
    """What the time of a plan is mostly spent on beyond what cannot be beaten, or what that is."""

    LEVELS = "probes wait for the last pretraining of all"
    PACKING = "CPUs, concurrent trials, packing, starts"
    LOSSES = "lost nodes"
    CHAIN = "the longest chain of stages"
    GPUS = "the number of GPUs"


@dataclass(frozen=True)
class Outlook:
    """A plan on one size of a cluster, at the best (0) or worst (1) of all assumptions."""

    worst: bool
    work: Work
    runs: dict[Order, Simulation]
    """Without lost nodes, so that orders are compared and not the luck of draws."""
    lossy: Simulation | None
    """As run does it, with lost nodes, one draw of their lives; None where no rate of losses is stated."""

    @property
    def named(self) -> dict[str, Simulation]:
        """What is shown: the orders, and lost nodes where any are counted."""
        return {order.value: run for order, run in self.runs.items()} | ({LOSSY: self.lossy} if self.lossy else {})

    @property
    def fleet(self) -> Fleet:
        """The cluster."""
        return self.runs[Order.AS_RUN].fleet

    @property
    def chain_s(self) -> float:
        """Seconds of the longest chain of stages: no number of GPUs makes it shorter."""
        return self.fleet.start_s + max(chains_from(self.work.tasks), default=0.0)

    @property
    def share_s(self) -> float:
        """Seconds that all training takes if no GPU is ever idle."""
        return self.runs[Order.AS_RUN].useful_gpu_s / self.fleet.gpus

    @property
    def least_s(self) -> float:
        """What no order can beat."""
        return max(self.chain_s, self.share_s)

    @property
    def chain(self) -> list[str]:
        """Names of the tasks of the longest chain."""
        return [self.work.tasks[i].name for i in longest_chain(self.work.tasks)]

    def seconds(self) -> dict[Limit, float]:
        """The makespan of `run` in parts: what cannot be beaten, and what each kind of waiting adds."""
        spans = {order: run.makespan_s for order, run in self.runs.items()}
        return {
            Limit.CHAIN if self.chain_s > self.share_s else Limit.GPUS: self.least_s,
            Limit.LEVELS: spans[Order.AS_RUN] - spans[Order.FREE],
            Limit.PACKING: spans[Order.FREE] - self.least_s,
            Limit.LOSSES: self.lossy.makespan_s - spans[Order.AS_RUN] if self.lossy else 0.0,
        }


def outlooks(
    plans: Sequence[Plan], done: Collection[str], demand_of: DemandOf, cluster: ClusterSpec, sizes: Sequence[int]
) -> list[tuple[Outlook, Outlook]]:
    """For each number of GPUs the outlook at best and at worst.

    Raises:
        UserError: a size is not one of whole nodes, or too small for a stage.
    """
    works = [lay_out(plans, done, demand_of, worst) for worst in (False, True)]
    if not works[0].tasks:
        raise UserError("nothing to simulate: every stage is in the store, or none has an estimate")
    pairs = []
    for gpus in sizes:
        fleet = fleet_of(cluster, gpus)
        try:
            best, worst = (_outlook(bool(i), work, fleet) for i, work in enumerate(works))
        except ValueError as error:
            raise UserError(f"--simulate {gpus}: {error}: lower execution.workers or decode_workers") from None
        pairs.append((best, worst))
    return pairs


def _outlook(worst: bool, work: Work, fleet: Fleet) -> Outlook:
    quiet = replace(fleet, interruptions_per_s=0.0)
    runs = {order: simulate(ordered(work, order), quiet) for order in Order}
    return Outlook(worst, work, runs, simulate(work.tasks, fleet, SEED) if fleet.interruptions_per_s else None)


def decoding_share(demands: Sequence[Demand]) -> tuple[float, float]:
    """Of the GPU hours of some stages the share that waits for decoding or the network, at best and at worst."""
    known = [(one.gpus, one.hours, one.compute_hours) for one in demands if one.hours and one.compute_hours]
    shares = []
    for end in (0, 1):
        total = sum(gpus * hours[end] for gpus, hours, _ in known)
        computing = sum(gpus * hours[end] for gpus, _, hours in known)
        shares.append(1 - computing / total if total else 0.0)
    return shares[0], shares[1]
