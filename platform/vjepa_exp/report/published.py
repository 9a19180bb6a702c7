"""The paper's numbers beside ours: where the files are, and whether a study fits the one that it names."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import vjepa_exp
from vjepa_exp.graph.plan import Plan
from vjepa_exp.spec.errors import Problem, SpecError
from vjepa_exp.spec.experiment import PaperReference
from vjepa_exp.spec.load import PAPER, ResolvedExperiment, read_experiment, resolve
from vjepa_exp.spec.problems import nearest
from vjepa_exp.spec.published import PublishedTable, read_published_file


def experiments_folder() -> Path:
    """The experiments that travel with the package: inside a wheel, or beside the source roots of a checkout."""
    package = Path(vjepa_exp.__file__).parent
    inside = package / "_experiments"
    return inside if inside.is_dir() else package.parents[1] / "experiments"


def published_path(paper: PaperReference) -> Path:
    """The file of a published table or figure."""
    return experiments_folder() / "paper" / f"{paper.name}.yaml"


@lru_cache(maxsize=32)
def read_published(paper: PaperReference) -> PublishedTable | None:
    """The published numbers, None where they are not part of the project.

    Raises:
        SpecError: the file is not valid, or a number was changed by hand.
    """
    path = published_path(paper)
    return read_published_file(path) if path.is_file() else None


def as_published(resolved: ResolvedExperiment) -> bool:
    """Whether this is the paper's recipe: that of the experiment of its table which travels with the package."""
    paper, experiment = resolved.experiment.paper, resolved.experiment
    if paper is None or resolved.profile is not None:
        return False
    theirs = [resolve(read_experiment(file), PAPER) for file in experiments_folder().glob(f"{paper.name}_*.yaml")]
    return any(
        (other.experiment.recipe, other.experiment.vary) == (experiment.recipe, experiment.vary) for other in theirs
    )


def require_cells(plan: Plan) -> None:
    """Every row and column of a study is one of its published table, and every printed cell has somebody to yield it.

    A cell may be yielded by a stage of ours, derived from others, or declared as not available: only silence is wrong.

    Raises:
        SpecError: with every row, column and cell that does not fit, at the line that names the table.
    """
    resolved, paper = plan.experiment, plan.experiment.experiment.paper
    if paper is None or resolved.profile is not None:
        return
    published, mark = read_published(paper), resolved.document.mark(("paper",))
    if published is None:
        raise SpecError([Problem(mark, "paper", f"there are no published numbers: {published_path(paper)} is missing")])
    experiment = resolved.experiment
    rows = [*dict.fromkeys(variant.name for variant in plan.variants), *experiment.released]
    columns = [*experiment.recipe.evaluate, *experiment.derived]
    problems = [
        *_unknown("row", rows, [row.id for row in published.rows], published),
        *_unknown("column", columns, [column.id for column in published.columns], published),
    ]
    wanted_rows, wanted_columns = paper.rows or [row.id for row in published.rows], paper.columns or columns
    problems += _unknown("row", paper.rows, [row.id for row in published.rows], published)
    problems += _unknown("column", paper.columns, [column.id for column in published.columns], published)
    if not paper.columns:
        wanted_columns = [column.id for column in published.columns]
    for row in published.rows:
        silent = [c for c in row.values if c in wanted_columns and (row.id not in rows or c not in columns)]
        if row.id in wanted_rows and silent:
            problems.append(f"nobody yields {', '.join(silent)} of row '{row.id}' of {published.heading}")
    if problems:
        raise SpecError([Problem(mark, "paper", message) for message in problems])


def _unknown(what: str, names: Iterable[str], known: list[str], published: PublishedTable) -> list[str]:
    return [f"{published.heading} has no {what} '{name}'.{nearest(name, known)}" for name in names if name not in known]
