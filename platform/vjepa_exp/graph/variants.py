"""From one experiment to its variants: the base recipe with one level of each factor applied, per seed."""

from __future__ import annotations

import importlib
import itertools
import pkgutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import vjepa_ablations
from vjepa_ablations.ablation import Ablation
from vjepa_exp.graph.draws import draws
from vjepa_exp.spec.data import MixtureEntry
from vjepa_exp.spec.document import Document, Keys
from vjepa_exp.spec.errors import Problem, SpecError
from vjepa_exp.spec.evaluate import EvaluationSpec
from vjepa_exp.spec.experiment import Recipe
from vjepa_exp.spec.load import ResolvedExperiment
from vjepa_exp.spec.problems import nearest, validate
from vjepa_exp.spec.stand_ins import stand_in, stand_in_mixture
from vjepa_exp.spec.vary import Search

BASE = "base"
"""Name of the only variant of an experiment in which nothing varies, where it is no row of the paper."""


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
    """The variants of an experiment: seeds inside levels, levels in the order of the ablation, the axes or the draws.

    Raises:
        SpecError: an unknown ablation or field, a level that makes no valid recipe, two equal variants.
    """
    experiment = resolved.experiment
    if not experiment.own:
        return []
    vary = experiment.vary
    if vary is None:
        name = experiment.paper.row if experiment.paper and experiment.paper.row else BASE
        levels = [Variant(name, "V-JEPA", {}, experiment.recipe.seed, experiment.recipe)]
    elif vary.ablation is not None:
        levels = _ablation_levels(resolved, vary.ablation)
    elif vary.search is not None:
        levels = _search_levels(resolved, vary.search)
    else:
        levels = _axis_levels(resolved, vary.axes)
    levels = [replace(level, recipe=_with_stand_ins(level.recipe, resolved)) for level in levels]
    _refuse_equal(resolved, levels)
    return [_repeat(resolved, level, seed) for level in levels for seed in experiment.seeds] or levels


def _repeat(resolved: ResolvedExperiment, level: Variant, seed: int) -> Variant:
    """A level under another base seed; an ablation that moves the seed moves every one as far."""
    moved = level.recipe.seed - resolved.experiment.recipe.seed
    if moved and (resolved.experiment.vary is None or resolved.experiment.vary.ablation is None):
        raise _problem(resolved, ("vary",), f"variant '{level.name}' sets the seed, and so does 'seeds'")
    return replace(level, seed=seed + moved, recipe=level.recipe.model_copy(update={"seed": seed + moved}))


def released_rows(resolved: ResolvedExperiment) -> dict[str, dict[str, EvaluationSpec]]:
    """Rows that are other people's models, with the columns that they would have to be evaluated for.

    Raises:
        SpecError: what a row changes in a column is not valid.
    """
    experiment = resolved.experiment
    rows = {}
    for row, model in experiment.released.items():
        at: Keys = ("released", row, "evaluate")
        recipe = experiment.recipe
        if model.evaluate:
            document = Document(recipe.to_json(), resolved.document.part(("recipe",)).marks)
            document.merge(resolved.document.part(at), ("evaluate",))
            recipe = validate(Recipe, document, ("recipe",))
        rows[row] = {column: e for column, e in recipe.evaluate.items() if column not in model.quoted}
    return rows


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
    except (ValueError, AssertionError) as error:  # the recipe does not suit the factor, or the factor is wrong
        line = str(error).replace("\n", " ")
        message = f"'{name}' does not suit this recipe: {line} ({ablation.where})"
        raise _problem(resolved, ("vary", "ablation"), message) from None
    return [Variant(level, level, {name: level}, recipe.seed, recipe) for level, recipe in recipes.items()]


def _axis_levels(resolved: ResolvedExperiment, axes: dict[str, dict[str, object]]) -> list[Variant]:
    variants = []
    for combination in itertools.product(*axes.values()):
        levels = dict(zip(axes, combination, strict=True))
        values = {axis: resolved.document.part(("vary", "axes", axis, level)) for axis, level in levels.items()}
        recipe = _recipe_with(resolved, values, ("vary", "axes"))
        variants.append(Variant("-".join(combination), _label(levels), levels, recipe.seed, recipe))
    for axis, named in axes.items():
        if not named:
            raise _problem(resolved, ("vary", "axes", axis), "the axis has no values")
    return variants


def _search_levels(resolved: ResolvedExperiment, search: Search) -> list[Variant]:
    """A variant for every point that is drawn."""
    at: Keys = ("vary", "search", "space")
    variants = list[Variant]()
    for given in draws(search.space, search.num_samples, search.seed):
        values = {f: Document(given[f], {(): resolved.document.mark((*at, f))}) for f in search.space}
        recipe = _recipe_with(resolved, values, at)
        levels = {field: _short(given[field]) for field in search.space}
        variants.append(Variant(f"t{len(variants):03}", _label(levels), levels, recipe.seed, recipe))
    return variants


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _label(levels: Mapping[str, str]) -> str:
    return ", ".join(f"{_ending(field, levels)} = {level}" for field, level in levels.items())


def _ending(field: str, fields: Iterable[str]) -> str:
    """The shortest end of a dotted field that no other of the fields ends with; the whole field where there is none."""
    parts, others = field.split("."), [f".{other}" for other in fields if other != field]
    endings = (".".join(parts[-length:]) for length in range(1, len(parts)))
    return next((e for e in endings if not any(other.endswith(f".{e}") for other in others)), field)


def _recipe_with(resolved: ResolvedExperiment, values: Mapping[str, Document], at: Keys) -> Recipe:
    """The base recipe with other values in dotted fields; a wrong one is reported at its own line, below `at`."""
    written = resolved.document.part(("recipe",))
    document = Document(resolved.experiment.recipe.to_json(), written.marks)
    for field, value in sorted(values.items(), key=lambda item: not item[0].endswith(".kind")):  # kinds first
        keys = document.keys(field)
        if keys[-1] == "kind" and document.get(keys) not in (None, value.data):
            # What was written beside it stays, and the defaults of the other kind mean nothing in this one.
            document.put(keys[:-1], Document(written.get(keys[:-1]) or {}, written.part(keys[:-1]).marks))
        try:
            document.put(keys, value)
        except KeyError:
            raise _problem(resolved, (*at, field), "there is no such field in the recipe") from None
    return validate(Recipe, document, ("recipe",))


def _with_stand_ins(recipe: Recipe, resolved: ResolvedExperiment) -> Recipe:
    """The level's own choice of data sets under the profile; those of the base recipe are settled already."""
    if not resolved.stand_ins:
        return recipe
    base, document = resolved.experiment.recipe, Document(recipe.to_json())
    done = stand_in_mixture(document, ("pretrain", "data", "mixture"), _unsettled(base.pretrain.data.mixture, resolved))
    for column in recipe.evaluate:
        settled = [base.evaluate[column]] if column in base.evaluate else []
        done |= stand_in(document, ("evaluate", column, "dataset"), _unsettled(settled, resolved))
    return validate(Recipe, document, ("recipe",)) if done else recipe


def _unsettled(settled: Sequence[MixtureEntry | EvaluationSpec], resolved: ResolvedExperiment) -> dict[str, str]:
    """The profile's stand-ins, but for sets that the base recipe shows in this place: `--set` wins over the profile."""
    names = {entry.dataset for entry in settled}
    return {name: other for name, other in resolved.stand_ins.items() if name not in names}


def _refuse_equal(resolved: ResolvedExperiment, variants: list[Variant]) -> None:
    names, recipes = dict[str, Variant](), dict[str, Variant]()
    for variant in variants:
        if variant.name in names:
            raise _problem(resolved, ("vary",), f"two variants are called '{variant.name}'")
        same = recipes.setdefault(variant.recipe.model_dump_json(), variant)
        if same is not variant:
            message = f"variants '{same.name}' and '{variant.name}' have the same recipe"
            raise _problem(resolved, ("vary",), message + _under(resolved))
        names[variant.name] = variant


def _under(resolved: ResolvedExperiment) -> str:
    return f" under the profile {resolved.profile_name}" if resolved.profile else ""


def _problem(resolved: ResolvedExperiment, keys: Keys, message: str) -> SpecError:
    return SpecError([Problem(resolved.document.mark(keys), ".".join(map(str, keys)), message)])
