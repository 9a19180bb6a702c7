"""From one experiment to its variants: the base recipe with one level of each factor applied, per seed."""

from __future__ import annotations

import importlib
import itertools
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass

import vjepa_ablations
from vjepa_ablations.ablation import Ablation
from vjepa_exp.spec.document import Document, Keys
from vjepa_exp.spec.errors import Problem, SpecError
from vjepa_exp.spec.experiment import Recipe
from vjepa_exp.spec.load import ResolvedExperiment
from vjepa_exp.spec.problems import nearest, validate

BASE = "base"
"""Name of the only variant of an experiment in which nothing varies."""


@dataclass(frozen=True)
class Variant:
    """One row of the study's table under one seed."""

    name: str
    """Unique in the study together with `seed`; the repeats of a variant share it."""
    label: str
    levels: dict[str, str]
    """Factor (the ablation, or the dotted recipe field of an axis) -> name of its level."""
    seed: int
    recipe: Recipe


def expand(resolved: ResolvedExperiment) -> list[Variant]:
    """The variants of an experiment: seeds inside levels, levels in the order of the ablation or the axes.

    Raises:
        SpecError: an unknown ablation or field, a level that makes no valid recipe, two equal variants.
    """
    experiment = resolved.experiment
    if experiment.vary is None:
        levels = [Variant(BASE, "V-JEPA", {}, experiment.recipe.seed, experiment.recipe)]
    elif experiment.vary.ablation is not None:
        levels = _ablation_levels(resolved, experiment.vary.ablation)
    else:
        levels = _axis_levels(resolved, experiment.vary.axes)
    _refuse_equal(resolved, levels)
    if not experiment.seeds:
        return levels
    for level in levels:
        if level.recipe.seed != experiment.recipe.seed:
            raise _problem(resolved, ("vary",), f"variant '{level.name}' sets the seed, and so does 'seeds'")
    return [
        Variant(v.name, v.label, v.levels, seed, v.recipe.model_copy(update={"seed": seed}))
        for v in levels
        for seed in experiment.seeds
    ]


def known_ablations() -> dict[str, Ablation]:
    """Every ablation of `ablations/` by its name, `file.function`."""
    return {f"{file}.{name}": ablation for file in _files() for name, ablation in _ablations_of(file)}


def _files() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(vjepa_ablations.__path__))


def _ablations_of(file: str) -> Iterator[tuple[str, Ablation]]:
    module = importlib.import_module(f"{vjepa_ablations.__name__}.{file}")
    return ((name, value) for name, value in vars(module).items() if isinstance(value, Ablation))


def _ablation_levels(resolved: ResolvedExperiment, name: str) -> list[Variant]:
    file, function = name.split(".")
    ablation = dict(_ablations_of(file)).get(function) if file in _files() else None
    if ablation is None:
        known = list(known_ablations())
        hint = nearest(name, known) or f" Known: {', '.join(known)}."
        raise _problem(resolved, ("vary", "ablation"), f"there is no ablation '{name}'.{hint}")
    try:
        recipes = ablation(resolved.experiment.recipe)
    except ValueError as error:  # the recipe does not suit the factor: its own words, or pydantic's
        line = str(error).replace("\n", " ")
        raise _problem(resolved, ("vary", "ablation"), f"'{name}' does not suit this recipe: {line}") from None
    return [Variant(level, level, {name: level}, recipe.seed, recipe) for level, recipe in recipes.items()]


def _axis_levels(resolved: ResolvedExperiment, axes: dict[str, dict[str, object]]) -> list[Variant]:
    variants = []
    for combination in itertools.product(*axes.values()):
        levels = dict(zip(axes, combination, strict=True))
        label = ", ".join(f"{axis.rpartition('.')[2]} = {level}" for axis, level in levels.items())
        recipe = _recipe_with(resolved, levels)
        variants.append(Variant("-".join(combination), label, levels, recipe.seed, recipe))
    for axis, named in axes.items():
        if not named:
            raise _problem(resolved, ("vary", "axes", axis), "the axis has no values")
    return variants


def _recipe_with(resolved: ResolvedExperiment, levels: dict[str, str]) -> Recipe:
    """The base recipe with the chosen value of every axis; a wrong value is reported at its own line."""
    base = resolved.document.part(("recipe",))
    document = Document(resolved.experiment.recipe.to_json(), base.marks)
    for axis, level in levels.items():
        keys: Keys = tuple(int(part) if part.isdigit() else part for part in axis.split("."))
        try:
            document.put(keys, resolved.document.part(("vary", "axes", axis, level)))
        except KeyError:
            raise _problem(resolved, ("vary", "axes", axis), "there is no such field in the recipe") from None
    return validate(Recipe, document, ("recipe",))


def _refuse_equal(resolved: ResolvedExperiment, variants: list[Variant]) -> None:
    for first, second in itertools.combinations(variants, 2):
        if first.name == second.name:
            raise _problem(resolved, ("vary",), f"two variants are called '{first.name}'")
        if first.recipe == second.recipe:
            raise _problem(resolved, ("vary",), f"variants '{first.name}' and '{second.name}' have the same recipe")


def _problem(resolved: ResolvedExperiment, keys: Keys, message: str) -> SpecError:
    return SpecError([Problem(resolved.document.mark(keys), ".".join(map(str, keys)), message)])
