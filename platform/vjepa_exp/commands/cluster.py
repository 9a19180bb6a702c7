"""`cluster render` and `cluster validate`: files for Ray's autoscaler and KubeRay, checked by Ray's own code."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import vjepa_exp
from vjepa_exp.cluster.layout import Tree
from vjepa_exp.cluster.render import as_yaml, render
from vjepa_exp.commands.console import console
from vjepa_exp.spec.cluster import ClusterSpec, Provider, read_cluster
from vjepa_exp.spec.errors import Problem, SpecError, UserError


def clusters_folder() -> Path:
    """The clusters that travel with the package: inside a wheel, or beside the source roots of a checkout."""
    package = Path(vjepa_exp.__file__).parent
    inside = package / "_clusters"
    return inside if inside.is_dir() else package.parents[1] / "clusters"


def find_cluster(name: str) -> Path:
    """The file that a user means: a path, or a cluster that travels with the package.

    Raises:
        UserError: there is no such file.
    """
    if Path(name).is_file():
        return Path(name)
    inside = name.removeprefix("clusters/")
    packaged = clusters_folder() / (inside if inside.endswith(".yaml") else f"{inside}.yaml")
    if packaged.is_file():
        return packaged
    known = ", ".join(file.stem for file in sorted(clusters_folder().glob("*.yaml")))
    raise UserError(f"{name}: no such file. Clusters that come with vjepa-exp: {known}")


def write(name: str, provider: Provider | None, experiment: str, folder: Path) -> None:
    """Write the files of a cluster, for one provider or for all that it has a section for.

    Raises:
        SpecError: the cluster is not valid.
        UserError: there is no such cluster, Ray refuses what is rendered, or the folder cannot be written.
    """
    spec, providers = read_cluster(find_cluster(name), provider)
    files = _checked(spec, providers, experiment)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, documents in files.items():
            (folder / file).write_text(as_yaml(documents), encoding="utf-8")
            console().print(f"written: {folder / file}", soft_wrap=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}") from None


def validate(names: Sequence[str]) -> None:
    """Render clusters for every provider that they name and let Ray check the result.

    Raises:
        SpecError: with the problems of all files that are not valid.
        UserError: there is no such cluster, or Ray refuses what is rendered.
    """
    problems = list[Problem]()
    for name in names:
        file = find_cluster(name)
        try:
            spec, providers = read_cluster(file)
        except SpecError as error:
            problems += error.problems
            continue
        files = _checked(spec, providers, "table4_masking")
        console().print(f"OK {file} ({', '.join(providers)}): {', '.join(files)}", soft_wrap=True)
    if problems:
        raise SpecError(problems)


def _checked(spec: ClusterSpec, providers: Sequence[Provider], experiment: str) -> dict[str, list[Tree]]:
    from vjepa_exp.runtime.cluster import check_ray_cluster, check_ray_up

    files = dict[str, list[Tree]]()
    for provider in providers:
        files |= render(spec, provider, experiment, version("ray"))
    for name, documents in files.items():
        for document in documents:
            if "kind" not in document:
                check_ray_up(name, document)
            elif document["kind"] in ("RayCluster", "RayJob"):
                check_ray_cluster(name, document)
    return files
