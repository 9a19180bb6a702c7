"""A collection: several experiments by the paths of their files, as `experiments/paper.yaml` is."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from vjepa_exp.spec.base import Name, Spec
from vjepa_exp.spec.document import Document
from vjepa_exp.spec.errors import Problem, SpecError
from vjepa_exp.spec.files import ABSENT, why_no_file
from vjepa_exp.spec.problems import nearest, validate


class Collection(Spec):
    """Experiments that are planned and run together; what they share is done once."""

    name: Name
    title: str = ""
    experiments: tuple[str, ...] = Field(min_length=1, description="Experiment files, relative to this one.")


def is_collection(document: Document) -> bool:
    """Whether a file is a collection, and not an experiment itself."""
    return isinstance(document.data, dict) and "experiments" in document.data


def collected(document: Document) -> list[Path]:
    """The files of a collection.

    Raises:
        SpecError: it is not valid, or names a file that is not there, or one twice.
    """
    collection = validate(Collection, document)
    folder = Path(document.mark(()).source).parent
    problems, files = list[Problem](), list[Path]()
    for i, name in enumerate(collection.experiments):
        file = folder / name
        wrong = why_no_file(file)
        if wrong == ABSENT:
            known = [path.name for path in folder.glob("*.yaml") if path.is_file()]
            wrong = f"there is no file '{name}' beside this one.{nearest(name, known)}"
        elif wrong:
            wrong = f"'{name}' {wrong}"
        elif file in files:
            wrong = f"'{name}' is listed twice"
        if wrong:
            problems.append(Problem(document.mark(("experiments", i)), f"experiments.{i}", wrong))
        files.append(file)
    if problems:
        raise SpecError(problems)
    return files
