"""Blocks written once: `use: FILE#a.b` in a mapping lays it over the block at `a.b` of another YAML file.

    k400: {use: fragments/table9_probes.yaml#evaluate.k400, clips: 8}

Paths count from the file that they are written in. A block uses no others; inside a file, YAML's own anchors do that.
Errors in a block name its own file and line, as it is validated where it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from vjepa_exp.spec.base import Name, Spec
from vjepa_exp.spec.document import Document, Keys, read_yaml
from vjepa_exp.spec.errors import Problem, SpecError
from vjepa_exp.spec.evaluate import EvaluationSpec
from vjepa_exp.spec.execution import ExecutionSpec
from vjepa_exp.spec.experiment import ProfileUse, ReleasedModel
from vjepa_exp.spec.files import ABSENT, why_no_file
from vjepa_exp.spec.model import ModelSpec
from vjepa_exp.spec.pretrain import PretrainSpec
from vjepa_exp.spec.problems import nearest, validate

USE = "use"


class Fragments(Spec):
    """A file of blocks for experiments to use, by kind and name."""

    fragments: str = Field(description="What the blocks are.")
    model: dict[Name, ModelSpec] = Field({})
    pretrain: dict[Name, PretrainSpec] = Field({})
    evaluate: dict[Name, EvaluationSpec] = Field({})
    released: dict[Name, ReleasedModel] = Field({})
    execution: dict[Name, ExecutionSpec] = Field({})
    profiles: dict[Name, dict[Name, Annotated[str | ProfileUse, Field(union_mode="left_to_right")]]] = Field({})


def read_spec(path: Path) -> Document:
    """Read a YAML file and put the blocks that it uses into it.

    Raises:
        SpecError: a file cannot be read, or there is no such block.
    """
    document = read_yaml(path)
    for keys in list(_uses(document.data, ())):
        _fill(document, keys)
    return document


def check_fragments(path: Path) -> int:
    """Check every block of a file of fragments for what it says; the number of blocks.

    Raises:
        SpecError: a block says something that its kind does not know.
    """
    document = read_yaml(path)
    try:
        validate(Fragments, document)
    except SpecError as error:
        wrong = [problem for problem in error.problems if problem.message != "is missing"]  # the user may fill it in
        if wrong:
            raise SpecError(wrong) from None
    return sum(len(blocks) for name, blocks in document.data.items() if name != "fragments")


def _uses(value: Any, keys: Keys) -> Iterator[Keys]:
    """Where blocks are asked for, the innermost first."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in inner:
        if isinstance(below, dict | list):
            yield from _uses(below, (*keys, key))
    if isinstance(value, dict) and isinstance(value.get(USE), str):
        yield keys


def _fill(document: Document, keys: Keys) -> None:
    """Lay the mapping at `keys` over the block that it uses."""
    own = document.part(keys)
    target, mark = own.data.pop(USE), own.marks.pop((USE,))
    try:
        block = _block(Path(mark.source).parent, target)
    except KeyError as error:
        raise SpecError([Problem(mark, ".".join(map(str, (*keys, USE))), str(error.args[0]))]) from None
    block.merge(own)
    document.put(keys, block)


def _block(folder: Path, target: str) -> Document:
    """A copy of the block that a target names.

    Raises:
        KeyError: with what is wrong with the target.
    """
    name, hash_sign, dotted = target.partition("#")
    if not hash_sign or not dotted:
        raise KeyError(f"'{target}' is not of the form FILE#a.b")
    file = folder / name
    if wrong := why_no_file(file):
        raise KeyError(f"there is no file {file}" if wrong == ABSENT else f"{file} {wrong}")
    whole = _parsed(file, file.stat().st_mtime_ns)
    keys: Keys = tuple(dotted.split("."))
    if whole.get(keys) is None:
        at = next(depth for depth in range(len(keys)) if whole.get(keys[: depth + 1]) is None)
        around = whole.get(keys[:at])
        known = [str(key) for key in around] if isinstance(around, dict) else []
        raise KeyError(f"{name} has no block '{dotted}'.{nearest(str(keys[at]), known)}")
    if not isinstance(whole.get(keys), dict):
        raise KeyError(f"'{dotted}' of {name} is no mapping: only a mapping can be laid over")
    return whole.part(keys)


@lru_cache(maxsize=64)
def _parsed(file: Path, version: int) -> Document:
    """A file of blocks, read once however many use it; `part` copies what is taken from it."""
    return read_yaml(file)
