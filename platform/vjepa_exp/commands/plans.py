"""What a plan says on the terminal and as JSON."""

from __future__ import annotations

import json

from rich.console import Console

from vjepa_exp.commands.console import grid, prose
from vjepa_exp.graph.cost import StageCost, device_of, hours, stage_cost
from vjepa_exp.graph.machine import this_machine
from vjepa_exp.graph.plan import Plan
from vjepa_exp.graph.result import StudyResult
from vjepa_exp.report.words import roughly
from vjepa_exp.runtime.slots import choose_device
from vjepa_exp.spec.datasets import Registry

Costs = dict[str, StageCost | None]


def plan_costs(plan: Plan, registry: Registry) -> Costs:
    """Cost by fingerprint."""
    execution = plan.experiment.experiment.execution
    return {stage.fingerprint: stage_cost(stage, execution, registry) for stage in plan.stages}


def time_estimate(plan: Plan, costs: Costs, result: StudyResult) -> str:
    """'about 3 min to 12 min of computing on 2 x core of ..., assuming ...', for the stages that are not done."""
    to_do = [cost for fingerprint, cost in costs.items() if fingerprint not in result.records]
    device, count = device_of(plan.experiment.experiment.execution, this_machine())
    span = hours(to_do, device, count)
    where = f"{count} x {device.name}, assuming {device.assumption}"
    if span is None:
        return f"time not estimated, as the size of a data set is not known ({where})"
    low, high = (3600 * value for value in span)
    time = f"about {roughly(low)} to {roughly(high)}" if low >= 1 else f"up to {roughly(max(1, high))}"
    return f"{time} of computing on {where}; starting a stage takes up to half a minute more"


def device_line(plan: Plan) -> str:
    """On what the stages run, and why."""
    execution, machine = plan.experiment.experiment.execution, this_machine()
    gpus = len(machine.gpus)
    if choose_device(execution, machine) == "cpu":
        why = "execution.device says so" if execution.device else f"there are {gpus or 'no'} GPUs here"
        return f"device CPU: {why}; {machine.cores} cores of {machine.cpu}"
    why = "execution.device says so" if execution.device else "they are here"
    names = ", ".join(dict.fromkeys(gpu.name for gpu in machine.gpus)) or "none"
    return f"device GPU, {execution.workers} a stage: {why}; here: {f'{gpus} x ' if gpus else ''}{names}"


def print_plan(plan: Plan, costs: Costs, result: StudyResult, out: Console) -> None:
    """The stages with their state and cost, and the sums."""
    rows = []
    for stage in plan.stages:
        state = "in store" if stage.fingerprint in result.records else "to do"
        rows.append((stage.id, plan.purpose(stage), state, *_cost_words(costs[stage.fingerprint])))
    header = ("stage", "for", "state", "parameters", "tokens/clip", "FLOPs", "memory", "decoded")
    out.print(grid(header, rows, right=range(3, 8)))
    done = sum(stage.fingerprint in result.records for stage in plan.stages)
    out.print(f"{len(plan.stages)} stages, {done} in the store, {len(plan.cells)} cells of the table")
    prose(out, time_estimate(plan, costs, result))


def plan_json(plan: Plan, costs: Costs, result: StudyResult, why_profile: str) -> str:
    """The plan as JSON: resolved experiment, stages with costs, what is missing."""
    resolved = plan.experiment
    body = {
        "experiment": resolved.experiment.to_json(),
        "profile": resolved.profile_name,
        "why_profile": why_profile,
        "missing_datasets": list(plan.missing_datasets),
        "stages": [
            {
                "id": stage.id,
                "kind": stage.kind,
                "fingerprint": stage.fingerprint,
                "inputs": [needed.id for needed in stage.inputs],
                "in_store": stage.fingerprint in result.records,
                "cost": _cost_json(costs[stage.fingerprint]),
            }
            for stage in plan.stages
        ],
        "cells": [
            {"variant": c.variant, "seed": c.seed, "column": c.column, "baseline": c.baseline, "stage": c.stage.id}
            for c in plan.cells
        ],
        "time": time_estimate(plan, costs, result),
    }
    return json.dumps(body, indent=2, ensure_ascii=False)


def _cost_words(cost: StageCost | None) -> tuple[str, str, str, str, str]:
    if cost is None:
        return "", "", "", "", ""
    return (
        amount(cost.parameters),
        str(cost.tokens_per_clip),
        "?" if cost.total_flops is None else amount(cost.total_flops),
        f"{amount(cost.memory_bytes)}B",
        "?" if cost.decoded_bytes is None else f"{amount(cost.decoded_bytes)}B",
    )


def _cost_json(cost: StageCost | None) -> dict[str, object] | None:
    if cost is None:
        return None
    return {
        "parameters": cost.parameters,
        "tokens_per_clip": cost.tokens_per_clip,
        "masks": [{"context": mask.context, "target": mask.target} for mask in cost.masks],
        "forward_flops_per_clip": cost.forward_flops,
        "backward_flops_per_clip": cost.backward_flops,
        "total_flops": cost.total_flops,
        "clips": cost.clips,
        "decoded_bytes": cost.decoded_bytes,
        "memory_bytes": cost.memory_bytes,
    }


def amount(value: float) -> str:
    """'307 M', '4.1 E'; three digits and an SI prefix."""
    for prefix in ("", "k", "M", "G", "T", "P", "E", "Z"):
        if value < 999.5:
            return f"{value:.3g} {prefix}".rstrip() if prefix else f"{value:.3g}"
        value /= 1000
    return f"{value:.3g} Y"
