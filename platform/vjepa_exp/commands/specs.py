"""`validate` and `schema`: YAML files, without torch or Ray."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vjepa_exp.commands.cluster import clusters_folder, find_cluster
from vjepa_exp.commands.console import console
from vjepa_exp.graph.plan import build_plan
from vjepa_exp.report.published import experiments_folder, require_cells
from vjepa_exp.spec.cluster import is_cluster, read_cluster
from vjepa_exp.spec.collection import collected, is_collection
from vjepa_exp.spec.datasets import Registry
from vjepa_exp.spec.document import read_yaml
from vjepa_exp.spec.errors import Problem, SpecError, UserError
from vjepa_exp.spec.experiment import Profile
from vjepa_exp.spec.fragments import check_fragments
from vjepa_exp.spec.load import read_experiment, resolve
from vjepa_exp.spec.problems import validate as validate_document
from vjepa_exp.spec.published import read_published_file
from vjepa_exp.spec.schema import write_schemas

NO_REGISTRY = Path("no datasets.yaml")
"""Whether an experiment is valid does not depend on what is registered here."""


def experiment_files(folder: Path) -> list[Path]:
    """The experiments of a folder (profiles and published numbers lie in folders below it)."""
    return sorted(folder.glob("*.yaml"))


def find_experiment(spec: str) -> Path:
    """The file that a user means: a path, or an experiment that travels with the package.

    Raises:
        UserError: there is no such file.
    """
    path = Path(spec)
    if path.is_file():
        return path
    inside = spec.removeprefix("experiments/")
    packaged = experiments_folder() / (inside if inside.endswith(".yaml") else f"{inside}.yaml")
    if packaged.is_file():
        return packaged
    known = ", ".join(file.stem for file in experiment_files(experiments_folder()))
    raise UserError(f"{spec}: no such file. Experiments that come with vjepa-exp: {known}")


def find_experiments(spec: str) -> list[Path]:
    """The experiments that a user means: one file, or the members of a collection.

    Raises:
        SpecError: the file cannot be read, or the collection is not valid.
        UserError: there is no such file.
    """
    path = find_experiment(spec)
    document = read_yaml(path)
    return collected(document) if is_collection(document) else [path]


def validate(specs: Sequence[str]) -> None:
    """Check experiments (every profile, every variant), profiles, registries and clusters; all of the project's if none
    is named.

    Raises:
        SpecError: with the problems of all files.
    """
    problems = list[Problem]()
    named = [file for spec in specs for file in _with_members(_find(spec))]
    for file in dict.fromkeys(named) or _all_files(experiments_folder(), clusters_folder()):
        try:
            what = _check(file)
        except SpecError as error:
            problems += error.problems
        else:
            console().print(f"OK {file} ({what})", soft_wrap=True)
    if problems:
        raise SpecError(problems)


def _with_members(file: Path) -> list[Path]:
    """A file, and behind a collection its experiments where they can be told."""
    try:
        document = read_yaml(file)
        return [file, *collected(document)] if is_collection(document) else [file]
    except SpecError:  # told when the file itself is looked at
        return [file]


def _find(spec: str) -> Path:
    return find_cluster(spec) if spec.startswith("clusters/") else find_experiment(spec)


def _all_files(folder: Path, clusters: Path) -> list[Path]:
    """Experiments, their blocks and profiles, the published numbers, and clusters."""
    below = [sorted((folder / name).glob("*.yaml")) for name in ("fragments", "profiles", "paper")]
    return [*experiment_files(folder), *(file for files in below for file in files), *sorted(clusters.glob("*.yaml"))]


def _check(file: Path) -> str:
    """What a valid file is."""
    document = read_yaml(file)
    if set(document.data) == {"datasets"}:
        return f"{len(Registry(file).entries)} data sets"
    if "recipe" not in document.data and "description" in document.data:
        validate_document(Profile, document)
        return "profile"
    if "rows" in document.data and "columns" in document.data:
        return f"{read_published_file(file).heading} as published"
    if "fragments" in document.data:
        return f"{check_fragments(file)} blocks"
    if is_cluster(document):
        return f"cluster for {', '.join(read_cluster(file)[1])}"
    if is_collection(document):
        return f"{len(collected(document))} experiments"
    experiment = read_experiment(file)
    problems = list[Problem]()
    for profile in experiment.profile_names:
        try:
            require_cells(build_plan(resolve(experiment, profile), Registry(NO_REGISTRY)))
        except SpecError as error:
            problems += (problem for problem in error.problems if problem not in problems)
    if problems:
        raise SpecError(problems)
    return f"profiles: {', '.join(experiment.profile_names)}"


def schema(folder: Path) -> None:
    """Write the JSON Schemas of experiments, profiles and clusters."""
    for path in write_schemas(folder):
        console().print(str(path), soft_wrap=True)
