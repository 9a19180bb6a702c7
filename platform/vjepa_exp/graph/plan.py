"""The plan of a study: its variants as stages, each piece of work once, and the cells of its table."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vjepa_exp.graph.demo import FAMILIES
from vjepa_exp.graph.exclusions import Exclusions
from vjepa_exp.graph.stage import LEVELS, NOT_BUILT, Stage
from vjepa_exp.graph.variants import Variant, expand, released_rows
from vjepa_exp.spec.datasets import Registry
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.evaluate import PROBES, AttentiveProbe, Detection, EvaluationSpec, Finetune, LinearProbe
from vjepa_exp.spec.experiment import Recipe, ReleasedModel, TimingColumn
from vjepa_exp.spec.load import ResolvedExperiment
from vjepa_exp.spec.masks import RandomTubeMask
from vjepa_exp.spec.pretrain import PretrainSpec
from vjepa_exp.spec.removal import RemovalList
from vjepa_exp.spec.stages import (
    DataRecipe,
    DetectRecipe,
    Digests,
    FinetuneRecipe,
    PretrainRecipe,
    ProbeRecipe,
    ReleasedRecipe,
)

QUOTED = "taken over from another paper, evaluated by nobody here"
TIMING = "the timing of an iteration on one GPU is not built yet"


@dataclass(frozen=True)
class Cell:
    """One number of the table: the probe that yields it. Repeats over seeds are cells of their own.

    Variants with the same model share the stage of a baseline; each has a cell of its own for it.
    """

    variant: str
    seed: int
    column: str
    stage: Stage
    variant_seed: int
    """The variant's; `seed` differs from it where the evaluation alone is repeated."""
    baseline: bool = False


@dataclass(frozen=True)
class Gap:
    """A cell of the table that no number of ours can stand in, and why; `stage` is the work that would yield it."""

    variant: str
    seed: int
    column: str
    reason: str
    stage: Stage | None = None


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
    gaps: tuple[Gap, ...] = ()
    """Cells that are declared and planned, but not available."""
    released: Mapping[str, ReleasedModel] = field(default_factory=dict)
    """Rows that are other people's models."""
    removals: Mapping[str, RemovalList] = field(default_factory=dict)
    """Removal lists by their digest, as the recipes of stages name them."""
    manifests: Mapping[str, Path] = field(default_factory=dict)
    """Data set -> its manifest, for those that are registered and not made by a stage."""

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
        repeated = len({variant.seed for variant in self.variants} | {cell.seed for cell in self.cells}) > 1
        return f", seed {', '.join(str(seed) for seed in dict.fromkeys(seed for _, seed in keys))}" if repeated else ""

    def levels(self) -> list[list[Stage]]:
        """The stages by level, empty levels left out; stages of one level are independent."""
        grouped = [[stage for stage in self.stages if stage.level == level] for level in sorted(set(LEVELS.values()))]
        return [stages for stages in grouped if stages]


def build_plan(resolved: ResolvedExperiment, registry: Registry) -> Plan:
    """Lay out the stages of an experiment.

    Raises:
        SpecError: the variants cannot be made.
        UserError: the manifest of a registered data set cannot be read, or a removal list does not fit its data set.
    """
    experiment = resolved.experiment
    exclusions = Exclusions(resolved.document, registry)
    variants = expand(resolved)
    released = released_rows(resolved)
    evaluations = [
        e for columns in (*(v.recipe.evaluate for v in variants), *released.values()) for e in columns.values()
    ]
    mixtures = [entry.dataset for variant in variants for entry in variant.recipe.pretrain.data.mixture]
    datasets = _Datasets(registry, [*mixtures, *(evaluation.dataset for evaluation in evaluations)])
    cells, gaps = list[Cell](), list[Gap]()
    pretraining = {}
    for variant in variants:
        pretrain = _pretrain_stage(variant.recipe, datasets, exclusions)
        pretraining[variant.name, variant.seed] = pretrain
        _lay_out(variant, pretrain, datasets, cells, gaps)
        if "random_init" in experiment.baselines:
            _lay_out(variant, None, datasets, cells, [])
        timed = [name for name, column in experiment.derived.items() if isinstance(column, TimingColumn)]
        gaps += (Gap(variant.name, variant.seed, name, TIMING) for name in timed)
    for row, columns in released.items():
        gaps += _released_gaps(row, experiment.released[row], columns, experiment.recipe.seed, datasets)
        others = [name for name in experiment.derived if name not in experiment.released[row].quoted]
        gaps += (Gap(row, experiment.recipe.seed, name, NOT_BUILT["released"]) for name in others)
        gaps += (Gap(row, experiment.recipe.seed, name, QUOTED) for name in experiment.released[row].quoted)
    asked_for = [stage for key, stage in pretraining.items() if _wanted(key, resolved, cells)]
    stages = _in_order([*asked_for, *(cell.stage for cell in cells)])
    missing = tuple(name for name in datasets.missing if any(name in _digests(stage) for stage in stages))
    return Plan(
        resolved,
        tuple(variants),
        tuple(cells),
        stages,
        pretraining,
        missing,
        tuple(gaps),
        experiment.released,
        exclusions.lists,
        datasets.manifests,
    )


def _wanted(key: tuple[str, int], resolved: ResolvedExperiment, cells: list[Cell]) -> bool:
    """Whether a pretraining serves anything that can be done: an evaluation, itself, or the count of what it saw."""
    experiment = resolved.experiment
    if not experiment.recipe.evaluate or any(column.kind == "samples" for column in experiment.derived.values()):
        return True
    return any(cell.variant == key[0] and not cell.baseline for cell in cells)


def _lay_out(variant: Variant, pretrain: Stage | None, datasets: _Datasets, cells: list[Cell], gaps: list[Gap]) -> None:
    """The cells of a variant, on its pretrained encoder or on a random one; what cannot be done goes to the gaps."""
    for column, evaluation in variant.recipe.evaluate.items():
        for seed in evaluation.seeds or (variant.seed,):
            stage = _evaluation_stage(variant.recipe, evaluation, seed, datasets, pretrain)
            if stage.kind in NOT_BUILT:
                gaps.append(Gap(variant.name, seed, column, NOT_BUILT[stage.kind], stage))
            else:
                cells.append(Cell(variant.name, seed, column, stage, variant.seed, baseline=pretrain is None))


def _released_gaps(
    row: str, model: ReleasedModel, columns: Mapping[str, EvaluationSpec], seed: int, datasets: _Datasets
) -> Iterator[Gap]:
    for column, evaluation in columns.items():
        for repeat in evaluation.seeds or (seed,):
            digests = datasets.digests([evaluation.dataset])
            recipe = ReleasedRecipe(seed=repeat, weights=model.weights, evaluation=evaluation.once(), digests=digests)
            stage = Stage("released", f"{model.weights}-{evaluation.dataset}-s{repeat}", recipe)
            yield Gap(row, repeat, column, NOT_BUILT["released"], stage)


def _digests(stage: Stage) -> Digests:
    return {} if isinstance(stage.recipe, DataRecipe) else stage.recipe.digests


def used_datasets(recipe: Recipe) -> list[str]:
    """The data sets that the stages of a recipe need, each once; those of evaluations that nothing can do are not."""
    mixture = [entry.dataset for entry in recipe.pretrain.data.mixture]
    probes = [evaluation.dataset for evaluation in recipe.evaluate.values() if evaluation.kind in PROBES]
    return list(dict.fromkeys([*mixture, *probes]))


class _Datasets:
    """Digests and data stages of the data sets that a study uses."""

    def __init__(self, registry: Registry, names: Iterable[str]) -> None:
        self.missing: list[str] = []
        self.manifests: dict[str, Path] = {}
        self._digests: dict[str, str] = {}
        self._stages: dict[str, Stage] = {}
        for name in dict.fromkeys(names):
            if not registry.has(name):
                self.missing.append(name)
                self._digests[name] = "not registered"
            elif (family := registry.demo_family(name)) is None:
                self.manifests[name] = registry.manifest(name)
                self._digests[name] = file_digest(name, self.manifests[name])
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


def _pretrain_stage(recipe: Recipe, datasets: _Datasets, exclusions: Exclusions) -> Stage:
    names = [entry.dataset for entry in recipe.pretrain.data.mixture]
    digests = datasets.digests(names)
    pretrain = exclusions.by_content(recipe.pretrain, digests)
    settings = PretrainRecipe(seed=recipe.seed, model=recipe.model, pretrain=pretrain, digests=digests)
    name = f"{recipe.model.arch}-{_task(recipe.pretrain)}-s{recipe.seed}"
    return Stage("pretrain", name, settings, datasets.stages(names))


def _evaluation_stage(
    recipe: Recipe, evaluation: EvaluationSpec, seed: int, datasets: _Datasets, pretrain: Stage | None
) -> Stage:
    digests, once = datasets.digests([evaluation.dataset]), evaluation.once()
    if isinstance(once, Finetune):
        once = once.of_arch(recipe.model.arch)
        tuned = FinetuneRecipe(seed=seed, model=recipe.model, finetune=once, digests=digests)
        return Stage("finetune", f"{once.dataset}-s{seed}", tuned, (pretrain,) if pretrain else ())
    if isinstance(once, Detection):
        found = DetectRecipe(seed=seed, model=recipe.model, detection=once, digests=digests)
        return Stage("detect", f"{once.dataset}-s{seed}", found, (pretrain,) if pretrain else ())
    return _probe_stage(recipe, once, seed, datasets, pretrain)


def _probe_stage(
    recipe: Recipe, probe: AttentiveProbe | LinearProbe, seed: int, datasets: _Datasets, pretrain: Stage | None
) -> Stage:
    settings = ProbeRecipe(
        seed=seed,
        model=recipe.model,
        encoder="pretrained" if pretrain else "random_init",
        probe=probe,
        digests=datasets.digests([probe.dataset]),
    )
    name = f"{probe.dataset}-{settings.encoder}-s{seed}"
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
