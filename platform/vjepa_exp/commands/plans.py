"""What a plan costs, in words."""

from __future__ import annotations

from collections.abc import Sequence

from vjepa_exp.graph.cost import device_of, hours, stage_cost
from vjepa_exp.graph.machine import HERE, Machine
from vjepa_exp.graph.packs import passengers
from vjepa_exp.graph.plan import Plan
from vjepa_exp.graph.stage import Stage
from vjepa_exp.report.words import roughly
from vjepa_exp.runtime.slots import choose_device
from vjepa_exp.spec.datasets import Registry
from vjepa_exp.spec.execution import ExecutionSpec


def time_estimate(to_do: Sequence[Stage], execution: ExecutionSpec, registry: Registry, machine: Machine) -> str:
    """'about 3 min to 12 min of computing on 2 x core of ..., assuming ...', for the stages that are not done."""
    riding = passengers(to_do, execution.probes_per_pass)
    costs = [(stage_cost(stage, execution, registry), stage.fingerprint in riding) for stage in to_do]
    device, count = device_of(execution, machine)
    span = hours([cost.riding if cost and rides else cost for cost, rides in costs], device, count)
    where = f"{count} x {device.name}, assuming {device.assumption}"
    if span is None:
        return f"time not estimated, as the size of a data set is not known ({where})"
    low, high = (3600 * value for value in span)
    time = f"about {roughly(low)} to {roughly(high)}" if low >= 1 else f"up to {roughly(max(1, high))}"
    return f"{time} of computing on {where}; starting a stage takes up to half a minute more"


def device_line(plan: Plan, machine: Machine) -> str:
    """On what the stages run, and why."""
    execution = plan.experiment.experiment.execution
    if execution.address is not None and machine.place == HERE:
        device = execution.device or "GPUs where there are enough, else CPUs"
        return f"device: {device}, on the Ray cluster at {execution.address}"
    gpus = len(machine.gpus)
    if choose_device(execution, machine) == "cpu":
        why = "execution.device says so" if execution.device else f"there are {gpus or 'no'} GPUs {machine.place}"
        return f"device CPU: {why}; {machine.cores} cores of {machine.cpu}"
    why = "execution.device says so" if execution.device else f"they are {machine.place}"
    names = ", ".join(dict.fromkeys(gpu.name for gpu in machine.gpus)) or "none"
    return f"device GPU, {execution.workers} a stage: {why}; {machine.place}: {f'{gpus} x ' if gpus else ''}{names}"


def amount(value: float) -> str:
    """'307 M', '4.1 E'; three digits and an SI prefix."""
    for prefix in ("", "k", "M", "G", "T", "P", "E", "Z"):
        if value < 999.5:
            return f"{value:.3g} {prefix}".rstrip() if prefix else f"{value:.3g}"
        value /= 1000
    return f"{value:.3g} Y"
