"""YAML as plain data that remembers where every value was written, so that an error can name file and line."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vjepa_exp.spec.errors import Mark, Problem, SpecError
from vjepa_exp.spec.yaml12 import Keys as Keys  # what documents are addressed by
from vjepa_exp.spec.yaml12 import Writer, read


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

    def keys(self, dotted: str, at: Keys = ()) -> Keys:
        """What a dotted path below `at` means: a number counts in a list, and is a name anywhere else."""
        keys, value = at, self.get(at)
        for part in dotted.split("."):
            counts = isinstance(value, list) and part.isdecimal() and len(part) < 10  # no list is longer
            key = int(part) if counts else part
            keys, value = (*keys, key), value[key] if _holds(value, key) else None
        return keys

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
        if not keys:
            self.data, self.marks = copy.deepcopy(other.data), dict(other.marks)
            return
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
        SpecError: the file cannot be read, is not valid YAML, is no mapping, has a key twice, or holds other things
            than plain data.
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
    return yaml.dump(data, Dumper=Writer, sort_keys=False, allow_unicode=True, width=120)


def parse_yaml(text: str, source: str, line: int | None = None) -> Document:
    """Parse YAML; `line` gives all marks one line (0 for a command-line option).

    Raises:
        SpecError: it is not valid YAML, has a key twice, or holds other things than plain data.
    """
    return Document(*read(text, source, line))
