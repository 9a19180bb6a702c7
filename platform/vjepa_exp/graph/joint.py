"""Several plans as one: what they share is one stage, and every stage knows whom it serves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from vjepa_exp.graph.plan import Plan
from vjepa_exp.graph.stage import NOT_BUILT, Stage
from vjepa_exp.spec.execution import ExecutionSpec
from vjepa_exp.spec.removal import RemovalList
from vjepa_exp.spec.stages import ProbeRecipe

NAMED = 3
"""Tables and figures that the label of a stage names before it counts the others."""


@dataclass(frozen=True)
class JointPlan:
    """The stages of several plans, each once, with those that nothing can do yet."""

    plans: tuple[Plan, ...]

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """Every stage that is declared, inputs before what needs them, whether it can be done yet or not."""
        found = dict[str, Stage]()
        for plan in self.plans:
            for stage in (*plan.stages, *plan.pretraining.values(), *(gap.stage for gap in plan.gaps if gap.stage)):
                for one in (*stage.inputs, stage):
                    found.setdefault(one.fingerprint, one)
        return tuple(sorted(found.values(), key=lambda stage: (stage.level, stage.kind in NOT_BUILT)))

    @cached_property
    def doable(self) -> tuple[Stage, ...]:
        """What a run does: every stage that something can do, each once, inputs before what needs them."""
        found = {stage.fingerprint: stage for plan in self.plans for stage in plan.stages}
        return tuple(sorted(found.values(), key=lambda stage: stage.level))

    @cached_property
    def serves(self) -> Mapping[str, tuple[str, ...]]:
        """Fingerprint -> the tables and figures ('T4', 'F8'), or else the experiments, that need the stage."""
        found = dict[str, dict[str, None]]()
        for plan in self.plans:
            experiment = plan.experiment.experiment
            who = experiment.paper.short if experiment.paper else experiment.name
            gaps = (gap.stage for gap in plan.gaps if gap.stage)
            for stage in (*plan.stages, *plan.pretraining.values(), *gaps):
                found.setdefault(stage.fingerprint, {})[who] = None
        return {fingerprint: tuple(names) for fingerprint, names in found.items()}

    @cached_property
    def executions(self) -> Mapping[str, ExecutionSpec]:
        """Fingerprint -> how the first experiment that needs the stage would do it."""
        found = dict[str, ExecutionSpec]()
        for plan in self.plans:
            for stage in (*plan.stages, *plan.pretraining.values(), *(gap.stage for gap in plan.gaps if gap.stage)):
                for one in (*stage.inputs, stage):
                    found.setdefault(one.fingerprint, plan.experiment.experiment.execution)
        return found

    @property
    def execution(self) -> ExecutionSpec:
        """How all of it is done, where the plans were put together by `together`."""
        return self.plans[0].experiment.experiment.execution

    @property
    def removals(self) -> Mapping[str, RemovalList]:
        """Removal lists by their digest."""
        return {digest: removals for plan in self.plans for digest, removals in plan.removals.items()}

    def label(self, stage: Stage) -> str:
        """A stage's kind and purpose, and whom it serves where there are several plans: 'T4, F8: pretrain tube'."""
        plan = next(plan for plan in self.plans if stage in plan.stages)
        if len(self.plans) == 1 or not stage.level:
            return plan.label(stage)
        names = self.serves[stage.fingerprint]
        others = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        return f"{', '.join(names[:NAMED])}{others}: {plan.label(stage)}"

    @property
    def missing_datasets(self) -> tuple[str, ...]:
        """Data sets that are not registered here."""
        return tuple(dict.fromkeys(name for plan in self.plans for name in plan.missing_datasets))

    def counts(self) -> Counter[str]:
        """How many stages of each kind there are, in the words of the paper's list of runs."""
        return Counter(kind_of_work(stage) for stage in self.stages)


def together(plans: Sequence[Plan]) -> list[JointPlan]:
    """The plans that a run does at once, the others after them: those that are to be done in the same way."""
    groups = dict[str, list[Plan]]()
    for plan in plans:
        groups.setdefault(plan.experiment.experiment.execution.model_dump_json(), []).append(plan)
    return [JointPlan(tuple(group)) for group in groups.values()]


def kind_of_work(stage: Stage) -> str:
    """What a stage is counted as."""
    if isinstance(stage.recipe, ProbeRecipe):
        return "low-shot probe" if stage.recipe.probe.label_fraction < 1 else "probe"
    if stage.kind == "released":
        return "evaluation of a released model"
    return {"pretrain": "pretraining", "finetune": "fine-tuning", "detect": "detection head"}.get(
        stage.kind, stage.kind
    )
