"""`plan`: what one or several experiments would do, what they share, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from vjepa_exp.commands.specs import find_experiments
from vjepa_exp.commands.studies import Request
from vjepa_exp.commands.study import Study, prepare
from vjepa_exp.graph.cost import Device, StageCost, decode_cores, device_of, hours, stage_cost
from vjepa_exp.graph.joint import JointPlan, together
from vjepa_exp.graph.machine import this_machine
from vjepa_exp.graph.packs import passengers
from vjepa_exp.graph.stage import NOT_BUILT, Stage
from vjepa_exp.graph.store import Store
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.execution import ExecutionSpec
from vjepa_exp.spec.load import read_experiment


@dataclass(frozen=True)
class PlannedStage:
    """A stage with what it costs and whom it serves."""

    stage: Stage
    purpose: str
    serves: tuple[str, ...]
    execution: ExecutionSpec
    cost: StageCost | None
    in_store: bool

    @property
    def reason(self) -> str:
        """Why nothing can do it, '' where something can."""
        return NOT_BUILT.get(self.stage.kind, "")

    @property
    def state(self) -> str:
        """'in store', 'to do' or 'not available'."""
        return "in store" if self.in_store else "not available" if self.reason else "to do"

    @cached_property
    def device(self) -> tuple[Device, int]:
        """On what its hours are stated, and on how many."""
        return device_of(self.execution, this_machine())

    @property
    def hours(self) -> tuple[float, float] | None:
        """At best and at worst, on all its devices."""
        return None if self.cost is None else hours([self.cost], *self.device)

    @property
    def cores(self) -> tuple[float, float] | None:
        """CPU cores that keep its devices fed."""
        return None if self.cost is None else decode_cores(self.cost, *self.device)

    @property
    def price(self) -> tuple[float, float] | None:
        """Of its devices for its hours, where a price is configured."""
        if self.execution.price is None or self.hours is None:
            return None
        low, high = (value * self.device[1] * self.execution.price for value in self.hours)
        return low, high

    @property
    def too_large(self) -> bool:
        """Whether its micro-batch does not fit the device."""
        memory = self.device[0].memory_bytes
        return memory is not None and self.cost is not None and self.cost.memory_bytes > memory


@dataclass(frozen=True)
class Planned:
    """Studies planned together."""

    studies: tuple[Study, ...]
    left_out: tuple[Path, ...]
    """Files that have no profile of the name asked for."""

    @cached_property
    def joint(self) -> JointPlan:
        """Their plans as one."""
        return JointPlan(tuple(study.plan for study in self.studies))

    @cached_property
    def stages(self) -> tuple[PlannedStage, ...]:
        """Every stage once."""
        store, registry = self.studies[0].store, self.studies[0].registry
        purposes, riding = self._purposes(), self._passengers(store)
        rows = []
        for stage in self.joint.stages:
            execution, fingerprint = self.joint.executions[stage.fingerprint], stage.fingerprint
            cost = stage_cost(stage, execution, registry)
            cost = cost.riding if cost and fingerprint in riding else cost
            in_store = stage.kind not in NOT_BUILT and store.record(stage) is not None
            serves = self.joint.serves.get(fingerprint, ())
            rows.append(PlannedStage(stage, purposes.get(fingerprint, ""), serves, execution, cost, in_store))
        return tuple(rows)

    @property
    def to_do(self) -> list[PlannedStage]:
        """What can be done and is not."""
        return [row for row in self.stages if row.state == "to do"]

    @property
    def not_available(self) -> list[PlannedStage]:
        """What nothing can do yet."""
        return [row for row in self.stages if row.state == "not available"]

    def _passengers(self, store: Store) -> set[str]:
        """Probes that ride on another one's pass where the studies run together."""
        riding, seen = set[str](), set[str]()
        for group in together(self.joint.plans):
            new = [s for s in group.doable if s.fingerprint not in seen and store.record(s) is None]
            riding |= passengers(new, group.execution.probes_per_pass)
            seen |= {stage.fingerprint for stage in group.doable}
        return riding

    def _purposes(self) -> Mapping[str, str]:
        """A stage's purpose in the words of the first study that needs it."""
        found = dict[str, str]()
        for plan in self.joint.plans:
            for stage in (*plan.stages, *plan.pretraining.values()):
                found.setdefault(stage.fingerprint, plan.purpose(stage))
            for gap in plan.gaps:
                if gap.stage:
                    found.setdefault(gap.stage.fingerprint, f"{gap.column}: {gap.variant}")
        return found


def plan_all(specs: Sequence[str], request: Request, store: Path) -> Planned:
    """Plan several experiments under the same options; collections stand for their members.

    Where a profile is named and several files are, those that have no profiles are left out; members of a collection
    must have it, as for `run`.

    Raises:
        SpecError: with the problems of a file.
        UserError: there is no such file or profile.
    """
    found = {spec: find_experiments(spec) for spec in specs}
    named = {files[0] for files in found.values() if len(files) == 1}
    files = list(dict.fromkeys(file for members in found.values() for file in members))
    studies, left_out = [], list[Path]()
    for file in files:
        if len(named) > 1 and file in named and request.profile != "auto" and not read_experiment(file).profiles:
            left_out.append(file)
        else:
            studies.append(prepare(replace(request, spec=str(file)), store))
    if not studies:
        raise UserError(f"none of these files has profiles: leave out --profile {request.profile}")
    return Planned(tuple(studies), tuple(left_out))
