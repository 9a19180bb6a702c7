"""A collection: several experiments by the paths of their files, as `experiments/paper.yaml` is."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from vjepa_exp.spec.base import Name, Spec
from vjepa_exp.spec.document import Document, read_yaml
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
        SpecError: it is not valid, names a file that is not there or one twice, another collection, or two experiments
            of one name: their reports would be one.
    """
    collection = validate(Collection, document)
    folder = Path(document.mark(()).source).parent
    problems, files, names = list[Problem](), list[Path](), dict[object, str]()
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
        else:
            wrong = _unfit(file, names)
        if wrong:
            problems.append(Problem(document.mark(("experiments", i)), f"experiments.{i}", wrong))
        files.append(file)
    if problems:
        raise SpecError(problems)
    return files


def _unfit(file: Path, names: dict[object, str]) -> str:
    """Why a file is no member beside those whose names are there already, '' where it is one."""
    document = read_yaml(file)
    if is_collection(document):
        return f"'{file.name}' is a collection itself: list its experiments"
    own = document.data.get("name")
    other = names.setdefault(own, file.name)
    return "" if other == file.name else f"'{file.name}' has the name of '{other}', {own}: their reports would be one"
