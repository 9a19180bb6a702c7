"""YAML as plain data that remembers where every value was written, so that an error can name file and line."""

from __future__ import annotations

import copy
import re
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vjepa_exp.spec.errors import Mark, Problem, SpecError

Keys = tuple[str | int, ...]


_Loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader  # ten times faster


class _Yaml12(_Loader):  # type: ignore[misc,valid-type]  # mypy wants a class to inherit from, not one of two
    """PyYAML with the scalars of YAML 1.2: `1e-3` is a number, `no` and `2024-04-15` are strings."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012 (PyYAML's own class attribute)


for _tag, _pattern, _first in [
    ("null", r"^(?:~|null|)$", ["~", "n", ""]),
    ("bool", r"^(?:true|false)$", ["t", "f"]),
    ("int", r"^[-+]?[0-9][0-9_]*$", list("-+0123456789")),
    (
        "float",
        r"^[-+]?(?:[0-9][0-9_]*\.[0-9]*(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?"
        r"|[0-9]+[eE][-+]?[0-9]+|\.(?:inf|nan))$",
        list("-+0123456789."),
    ),
    ("merge", r"^<<$", ["<"]),
]:
    _Yaml12.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


class _Writer(yaml.SafeDumper):
    """Writes what `_Yaml12` reads back: quotes what that would take for another type, and names nothing twice."""

    yaml_implicit_resolvers = _Yaml12.yaml_implicit_resolvers

    def ignore_aliases(self, data: Any) -> bool:
        return True


@dataclass
class Document:
    """Nested dicts, lists and scalars, and the mark of every one of them by its keys."""

    data: Any
    marks: dict[Keys, Mark] = field(default_factory=dict)

    def mark(self, keys: Keys) -> Mark:
        """Where the value at `keys` was written, or else the nearest value around it."""
        while keys and keys not in self.marks:
            keys = keys[:-1]
        return self.marks.get(keys, Mark("?"))

    def get(self, keys: Keys) -> Any:
        """The value at `keys`, None where there is none."""
        value = self.data
        for key in keys:
            if not _holds(value, key):
                return None
            value = value[key]
        return value

    def part(self, keys: Keys) -> Document:
        """The document below `keys`."""
        depth = len(keys)
        marks = {k[depth:]: m for k, m in self.marks.items() if k[:depth] == keys}
        return Document(copy.deepcopy(self.get(keys)), marks)

    def copy(self) -> Document:
        """An independent copy."""
        return Document(copy.deepcopy(self.data), dict(self.marks))

    def put(self, keys: Keys, other: Document) -> None:
        """Set the value at `keys`, replacing what was there. Parents are made where they are missing.

        Raises:
            KeyError: a parent is a scalar, or a list index is out of range; the argument is the parent's keys.
        """
        parent = self.data
        for depth, key in enumerate(keys[:-1]):
            if isinstance(parent, dict):
                parent = parent.setdefault(key, {})
            elif _holds(parent, key):
                parent = parent[key]
            else:
                raise KeyError(keys[: depth + 1])
        if not isinstance(parent, dict) and not _holds(parent, keys[-1]):
            raise KeyError(keys)
        parent[keys[-1]] = copy.deepcopy(other.data)
        for old in [k for k in self.marks if k[: len(keys)] == keys]:
            del self.marks[old]
        self.marks.update({keys + k: m for k, m in other.marks.items()})

    def merge(self, other: Document, at: Keys = ()) -> None:
        """Lay `other` over the value at `at`: mappings merge, all else replaces.

        A mapping whose `kind` changes is replaced as a whole: the fields of one kind mean nothing in another.
        """
        mine, theirs = self.get(at), other.data
        new_kind = isinstance(mine, dict) and isinstance(theirs, dict) and "kind" in theirs and "kind" in mine
        if not isinstance(mine, dict) or not isinstance(theirs, dict) or (new_kind and mine["kind"] != theirs["kind"]):
            self.put(at, other)
            return
        for key in theirs:
            self.merge(other.part((key,)), (*at, key))


def _holds(value: Any, key: str | int) -> bool:
    if isinstance(value, list):
        return isinstance(key, int) and key < len(value)
    return isinstance(value, dict) and key in value


def read_yaml(path: Path) -> Document:
    """Read a YAML file.

    Raises:
        SpecError: the file cannot be read, is not valid YAML, is no mapping, or has a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a UTF-8 text file"
        raise SpecError([Problem(Mark(str(path)), "", f"cannot be read: {reason}")]) from None
    document = parse_yaml(text, str(path))
    if not isinstance(document.data, dict):
        raise SpecError([Problem(Mark(str(path), 1), "", "must hold a mapping of keys to values")])
    return document


def to_yaml(data: Any) -> str:
    """Plain data as YAML that reads back as the same."""
    return yaml.dump(data, Dumper=_Writer, sort_keys=False, allow_unicode=True, width=120)


def parse_yaml(text: str, source: str, line: int | None = None) -> Document:
    """Parse YAML; `line` gives all marks one line (0 for a command-line option)."""
    loader = _Yaml12(text)
    document = Document(None)
    problems: list[Problem] = []
    try:
        root = loader.get_single_node()
        if root is not None:
            document.data = _build(loader, root, (), document.marks, problems, source, line)
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark or error.context_mark
        where = Mark(source, at.line + 1 if at and line is None else 0)
        raise SpecError([Problem(where, "", f"not valid YAML: {error.problem or error.context}")]) from None
    except yaml.YAMLError as error:
        raise SpecError([Problem(Mark(source), "", f"not valid YAML: {error}")]) from None
    finally:
        loader.dispose()
    if problems:
        raise SpecError(problems)
    return document


def _build(
    loader: _Yaml12,
    node: yaml.Node,
    keys: Keys,
    marks: dict[Keys, Mark],
    problems: list[Problem],
    source: str,
    line: int | None,
) -> Any:
    marks[keys] = Mark(source, node.start_mark.line + 1 if line is None else line)
    if isinstance(node, yaml.SequenceNode):
        return [_build(loader, n, (*keys, i), marks, problems, source, line) for i, n in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return loader.construct_object(node)
    seen: set[str] = set()
    for key_node, _ in node.value:
        if key_node.value in seen:
            where = Mark(source, key_node.start_mark.line + 1 if line is None else line)
            problems.append(Problem(where, ".".join(map(str, (*keys, key_node.value))), "key is given twice"))
        seen.add(key_node.value)
    loader.flatten_mapping(node)  # merge keys `<<`: what they bring comes first, the mapping's own keys win
    node.value = list({str(key.value): (key, value) for key, value in node.value}.values())
    data: dict[Hashable, Any] = {}
    for key_node, value_node in node.value:
        key = str(key_node.value)
        data[key] = _build(loader, value_node, (*keys, key), marks, problems, source, line)
        marks[*keys, key] = Mark(source, key_node.start_mark.line + 1 if line is None else line)
    return data
