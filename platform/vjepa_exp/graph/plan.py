"""The plan of a study: its variants as stages, each piece of work once, and the cells of its table."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vjepa_exp.graph.demo import FAMILIES
from vjepa_exp.graph.stage import LEVELS, Stage
from vjepa_exp.graph.variants import Variant, expand
from vjepa_exp.spec.datasets import Registry
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.experiment import Recipe
from vjepa_exp.spec.load import ResolvedExperiment
from vjepa_exp.spec.masks import RandomTubeMask
from vjepa_exp.spec.pretrain import PretrainSpec
from vjepa_exp.spec.stages import DataRecipe, Digests, PretrainRecipe, ProbeRecipe


@dataclass(frozen=True)
class Cell:
    """One number of the table: the probe that yields it. Repeats over seeds are cells of their own.

    Variants with the same model share the stage of a baseline; each has a cell of its own for it.
    """

    variant: str
    seed: int
    column: str
    stage: Stage
    baseline: bool = False


@dataclass(frozen=True)
class Plan:
    """What has to be done for a study; pure: knows nothing of what is in a store."""

    experiment: ResolvedExperiment
    variants: tuple[Variant, ...]
    cells: tuple[Cell, ...]
    stages: tuple[Stage, ...]
    """Without repetition, inputs before what needs them."""
    pretraining: Mapping[tuple[str, int], Stage]
    """(Variant name, seed) -> its pretraining."""
    missing_datasets: tuple[str, ...]
    """Data sets that are not registered here; with any of them missing the fingerprints are provisional."""

    def purpose(self, stage: Stage) -> str:
        """What a stage is for, in the words of the study: its variants, a probe's column before them; '' for data."""
        if stage.kind == "data":
            return ""
        cells = [cell for cell in self.cells if cell.stage.fingerprint == stage.fingerprint]
        if not cells:
            keys = [
                key for key, pretraining in self.pretraining.items() if pretraining.fingerprint == stage.fingerprint
            ]
            return self._names(keys)
        column = ", ".join(dict.fromkeys(cell.column for cell in cells))
        keys = [(cell.variant, cell.seed) for cell in cells]
        who = f"random init{self._seeds(keys)}" if cells[0].baseline else self._names(keys)
        return f"{column}: {who}"

    def label(self, stage: Stage) -> str:
        """A stage's kind and purpose, short enough for a line of progress."""
        return f"{stage.kind} {self.purpose(stage) or stage.name}"

    def _names(self, keys: list[tuple[str, int]]) -> str:
        labels = {variant.name: variant.label for variant in self.variants}
        unique = list(dict.fromkeys(labels[name] for name, _ in keys))
        names = ", ".join(unique) if len(unique) < 4 else f"{len(unique)} variants"
        return f"{names}{self._seeds(keys)}"

    def _seeds(self, keys: list[tuple[str, int]]) -> str:
        repeated = len({variant.seed for variant in self.variants}) > 1
        return f", seed {', '.join(str(seed) for seed in dict.fromkeys(seed for _, seed in keys))}" if repeated else ""

    def levels(self) -> list[list[Stage]]:
        """The stages by level, empty levels left out; stages of one level are independent."""
        grouped = [[stage for stage in self.stages if stage.level == level] for level in range(len(LEVELS))]
        return [stages for stages in grouped if stages]


def build_plan(resolved: ResolvedExperiment, registry: Registry) -> Plan:
    """Lay out the stages of an experiment.

    Raises:
        SpecError: the variants cannot be made.
        UserError: the manifest of a registered data set cannot be read.
    """
    experiment = resolved.experiment
    variants = expand(resolved)
    datasets = _Datasets(registry, (name for variant in variants for name in used_datasets(variant.recipe)))
    cells = []
    pretraining = {}
    for variant in variants:
        pretrain = _pretrain_stage(variant.recipe, datasets)
        pretraining[variant.name, variant.seed] = pretrain
        for encoder in (pretrain, None) if "random_init" in experiment.baselines else (pretrain,):
            for column in variant.recipe.evaluate:
                probe = _probe_stage(variant.recipe, column, datasets, encoder)
                cells.append(Cell(variant.name, variant.seed, column, probe, baseline=encoder is None))
    stages = _in_order([*pretraining.values(), *(cell.stage for cell in cells)])
    return Plan(resolved, tuple(variants), tuple(cells), stages, pretraining, tuple(datasets.missing))


def used_datasets(recipe: Recipe) -> list[str]:
    """The data sets of a recipe, each once."""
    mixture = [entry.dataset for entry in recipe.pretrain.data.mixture]
    return list(dict.fromkeys([*mixture, *(probe.dataset for probe in recipe.evaluate.values())]))


class _Datasets:
    """Digests and data stages of the data sets that a study uses."""

    def __init__(self, registry: Registry, names: Iterable[str]) -> None:
        self.missing: list[str] = []
        self._digests: dict[str, str] = {}
        self._stages: dict[str, Stage] = {}
        for name in dict.fromkeys(names):
            if not registry.has(name):
                self.missing.append(name)
                self._digests[name] = "not registered"
            elif (family := registry.demo_family(name)) is None:
                self._digests[name] = file_digest(name, registry.manifest(name))
            else:
                self._digests[name] = FAMILIES[family].digest
                recipe = DataRecipe(family=family, digest=FAMILIES[family].digest)
                self._stages[name] = Stage("data", family, recipe)

    def digests(self, names: Iterable[str]) -> Digests:
        return {name: self._digests[name] for name in names}

    def stages(self, names: Iterable[str]) -> tuple[Stage, ...]:
        return _in_order(self._stages[name] for name in names if name in self._stages)


def file_digest(name: str, manifest: Path) -> str:
    """Digest of a registered data set, by which stages know it.

    Raises:
        UserError: its manifest cannot be read.
    """
    try:
        with manifest.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(
            f"manifest {manifest} of data set '{name}' cannot be read: {error.strerror}. "
            f"Write it again: vjepa-exp data index FOLDER_OR_CSV --out {name}"
        ) from None


def _pretrain_stage(recipe: Recipe, datasets: _Datasets) -> Stage:
    names = [entry.dataset for entry in recipe.pretrain.data.mixture]
    settings = PretrainRecipe(
        seed=recipe.seed, model=recipe.model, pretrain=recipe.pretrain, digests=datasets.digests(names)
    )
    name = f"{recipe.model.arch}-{_task(recipe.pretrain)}-s{recipe.seed}"
    return Stage("pretrain", name, settings, datasets.stages(names))


def _probe_stage(recipe: Recipe, column: str, datasets: _Datasets, pretrain: Stage | None) -> Stage:
    probe = recipe.evaluate[column]
    settings = ProbeRecipe(
        seed=recipe.seed,
        model=recipe.model,
        encoder="pretrained" if pretrain else "random_init",
        probe=probe,
        digests=datasets.digests([probe.dataset]),
    )
    name = f"{probe.dataset}-{settings.encoder}-s{recipe.seed}"
    inputs = datasets.stages([probe.dataset])
    return Stage("probe", name, settings, (*inputs, pretrain) if pretrain else inputs)


def _task(pretrain: PretrainSpec) -> str:
    """The pretraining task in words, from the recipe alone: one recipe has one folder, whatever study asks for it."""
    words: list[str] = [pretrain.objective.kind] if pretrain.objective.kind != "features" else []
    for mask in pretrain.masks:
        if isinstance(mask, RandomTubeMask):
            words.append("tube")
        else:
            words.append("causal" if mask.max_temporal_keep < 1 else "multiblock")
    return "-".join(dict.fromkeys(words))


def _in_order(wanted: Iterable[Stage]) -> tuple[Stage, ...]:
    """The stages and all their inputs, each fingerprint once, sorted by level."""
    found: dict[str, Stage] = {}

    def add(stage: Stage) -> None:
        for needed in stage.inputs:
            add(needed)
        found.setdefault(stage.fingerprint, stage)

    for stage in wanted:
        add(stage)
    return tuple(sorted(found.values(), key=lambda stage: stage.level))
