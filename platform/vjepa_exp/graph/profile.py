"""Which profile of an experiment suits this machine, where the user names none."""

from __future__ import annotations

from dataclasses import dataclass

from vjepa_exp.graph.machine import Machine
from vjepa_exp.graph.plan import used_datasets
from vjepa_exp.graph.variants import expand
from vjepa_exp.spec.datasets import Registry
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.experiment import Requirements
from vjepa_exp.spec.load import PAPER, ExperimentFile, resolve

PAPER_MACHINE = Requirements(gpus=8, gpu_memory_gb=70)
"""The least machine on which a published table is worth starting: one node of eight A100 80GB or better."""


@dataclass(frozen=True)
class Choice:
    """The profile taken, why, and what stands in the way of the others."""

    name: str
    reason: str
    others: dict[str, str]
    """Every other profile -> what it lacks here, or that a larger one fits."""


def choose_profile(file: ExperimentFile, registry: Registry, machine: Machine) -> Choice:
    """The largest profile whose data sets are registered and whose devices are there.

    Raises:
        SpecError: a profile does not give a valid experiment.
        UserError: none fits.
    """
    names = sorted(file.profile_names, key=lambda name: _size(file, name), reverse=True)
    lacking = {name: _lacking(file, name, registry, machine) for name in names}
    fitting = [name for name in names if not lacking[name]]
    if not fitting:
        lines = "; ".join(f"{name} needs {what}" for name, what in lacking.items())
        raise UserError(f"{file.path}: no profile fits this machine: {lines}")
    chosen = fitting[0]
    others = {name: f"needs {what}" if what else "smaller" for name, what in lacking.items() if name != chosen}
    if len(names) == 1:
        return Choice(chosen, "the only one", others)
    larger = [f"{name} {others[name]}" for name in names[: names.index(chosen)]]
    return Choice(chosen, f"the largest that fits here: {'; '.join(larger)}" if larger else "the largest", others)


def requirements(file: ExperimentFile, name: str) -> Requirements:
    """What a profile asks of the machine; an experiment as it stands asks for much only if it is a paper's table."""
    if name != PAPER:
        return file.profiles[name][0].requires
    return PAPER_MACHINE if file.document.get(("paper",)) else Requirements()


def _size(file: ExperimentFile, name: str) -> tuple[bool, int, int]:
    needs = requirements(file, name)
    return name == PAPER, needs.gpus, needs.gpu_memory_gb


def _lacking(file: ExperimentFile, name: str, registry: Registry, machine: Machine) -> str:
    variants = expand(resolve(file, name))
    used = dict.fromkeys(dataset for variant in variants for dataset in used_datasets(variant.recipe))
    missing = [dataset for dataset in used if not registry.has(dataset)]
    needs = requirements(file, name)
    lacking = [f"the data set{'s' if len(missing) > 1 else ''} {', '.join(missing)}"] if missing else []
    if machine.gpus_with(needs.gpu_memory_gb) < needs.gpus:
        plural = "s" if needs.gpus > 1 else ""
        lacking.append(f"{needs.gpus} GPU{plural} with {needs.gpu_memory_gb} GB")
    return " and ".join(lacking)
