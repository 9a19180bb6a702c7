"""Text of YAML 1.2 as plain data and the line of every value; what has no plain data is refused, and where it stands.

Plain data are null, bool, int, float, str, lists, and mappings whose keys are words. PyYAML reads YAML 1.1, makes
dates, bytes and sets of some texts, and raises what no caller expects for others: only its parser is used here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

from vjepa_exp.spec.errors import Mark, Problem, SpecError

Keys = tuple[str | int, ...]
MAX_DEPTH = 64
"""Levels of lists and mappings in each other; far below what Python and the reader of JSON can follow."""
MAX_VALUES = 100_000
"""Values of a file, those that aliases repeat included."""
_MAX_INT = 2**63
_TAG = "tag:yaml.org,2002:"
_PATTERNS = {
    "null": (r"^(?:~|null|)$", ["~", "n", ""]),
    "bool": (r"^(?:true|false)$", ["t", "f"]),
    "int": (r"^[-+]?[0-9][0-9_]*$", list("-+0123456789")),
    "float": (
        r"^[-+]?(?:[0-9][0-9_]*\.[0-9]*(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?"
        r"|[0-9]+[eE][-+]?[0-9]+|\.(?:inf|nan))$",
        list("-+0123456789."),
    ),
    "merge": (r"^<<$", ["<"]),
}

_Loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader  # ten times faster


class _Yaml12(_Loader):  # type: ignore[misc,valid-type]  # mypy wants a class to inherit from, not one of two
    """PyYAML with the scalars of YAML 1.2: `1e-3` is a number, `no` and `2024-04-15` are strings."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012 (PyYAML's own class attribute)


for _name, (_pattern, _first) in _PATTERNS.items():
    _Yaml12.add_implicit_resolver(_TAG + _name, re.compile(_pattern), _first)


class Writer(yaml.SafeDumper):
    """Writes what `read` reads back: quotes what that would take for another type, and names nothing twice."""

    yaml_implicit_resolvers = _Yaml12.yaml_implicit_resolvers

    def ignore_aliases(self, data: Any) -> bool:
        return True


def read(text: str, source: str, line: int | None = None) -> tuple[Any, dict[Keys, Mark]]:
    """The data of a text, and where each value of it is written; `line` gives all marks one line.

    Raises:
        SpecError: it is not YAML, or holds what is no plain data.
    """
    reader = _Reader(source, line)
    root = _composed(text, reader)
    data = None if root is None else reader.value(root, ())
    if reader.problems:
        raise SpecError(reader.problems)
    return data, reader.marks


def _composed(text: str, reader: _Reader) -> yaml.Node | None:
    try:
        depth = 0
        for event in yaml.parse(text, Loader=_Yaml12):  # before libyaml composes: it recurses until the stack is full
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise reader.too_deep(event, ())
        return yaml.compose(text, Loader=_Yaml12)
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark or error.context_mark
        where = Mark(reader.source, at.line + 1 if at and reader.line is None else 0)
        raise SpecError([Problem(where, "", f"not valid YAML: {error.problem or error.context}")]) from None
    except yaml.YAMLError as error:
        raise SpecError([Problem(Mark(reader.source), "", f"not valid YAML: {' '.join(str(error).split())}")]) from None


@dataclass
class _Reader:
    """Nodes as data. What is wrong goes to `problems`, and None stands for it."""

    source: str
    line: int | None
    marks: dict[Keys, Mark] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def value(self, node: yaml.Node, keys: Keys, around: tuple[yaml.Node, ...] = ()) -> Any:
        """The data of a node.

        Args:
            node: a scalar, list or mapping.
            keys: where it stands.
            around: the nodes that it stands in.
        """
        self.marks[keys] = self._mark(node)
        if len(self.marks) > MAX_VALUES:
            raise SpecError([Problem(self._mark(node), "", f"aliases make more than {MAX_VALUES} values of the file")])
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, keys)
        if node.tag not in (_TAG + "seq", _TAG + "map"):
            return self._no_such_tag(node, keys)
        if not self._may_enter(node, keys, around):
            return None
        inside = (*around, node)
        if not isinstance(node, yaml.MappingNode):
            return [self.value(item, (*keys, i), inside) for i, item in enumerate(node.value)]
        data: dict[str, Any] = {}
        for name, (key, item) in self._pairs(node, keys, inside).items():
            data[name] = self.value(item, (*keys, name), inside)
            self.marks[*keys, name] = self._mark(key)
        return data

    def too_deep(self, at: yaml.Node | yaml.Event, keys: Keys) -> SpecError:
        return SpecError([self._problem_at(at, keys, f"lists and mappings stand in each other, over {MAX_DEPTH} deep")])

    def _pairs(
        self, node: yaml.MappingNode, keys: Keys, inside: tuple[yaml.Node, ...]
    ) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """Keys and values of a mapping: what merge keys `<<` bring comes first, and its own keys win."""
        merged, own = dict[str, tuple[yaml.Node, yaml.Node]](), dict[str, tuple[yaml.Node, yaml.Node]]()
        given = set[str]()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._problem(key, keys, "a key is a word or a number, and this one is a list or a mapping")
                continue
            if key.tag != _TAG + "str" and key.tag.removeprefix(_TAG) not in _PATTERNS:
                self._no_such_tag(key, keys)
            if key.value in given:
                self._problem(key, (*keys, key.value), "key is given twice")
            given.add(key.value)
            if key.tag == _TAG + "merge":
                merged |= self._merged(value, keys, inside)
            else:
                own[key.value] = key, value
        return merged | own

    def _merged(
        self, value: yaml.Node, keys: Keys, inside: tuple[yaml.Node, ...]
    ) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """What `<<` brings; of several mappings the first wins."""
        brought = dict[str, tuple[yaml.Node, yaml.Node]]()
        for source in reversed(value.value if isinstance(value, yaml.SequenceNode) else [value]):
            if not isinstance(source, yaml.MappingNode):
                self._problem(source, keys, "'<<' needs a mapping, or a list of mappings")
            elif self._may_enter(source, keys, inside):
                brought |= self._pairs(source, keys, (*inside, source))
        return brought

    def _may_enter(self, node: yaml.Node, keys: Keys, around: tuple[yaml.Node, ...]) -> bool:
        if any(node is outer for outer in around):
            self._problem(node, keys, "stands in itself")
            return False
        if len(around) >= MAX_DEPTH:
            raise self.too_deep(node, keys)
        return True

    def _scalar(self, node: yaml.ScalarNode, keys: Keys) -> Any:
        kind, text = node.tag.removeprefix(_TAG), node.value
        if kind in ("str", "merge"):
            return text
        if kind not in _READ:
            return self._no_such_tag(node, keys)
        patterns = ("int", "float") if kind == "float" else (kind,)
        if not any(re.match(_PATTERNS[pattern][0], text) for pattern in patterns):  # it was written with its tag
            return self._problem(node, keys, f"'{text[:40]}' is no value of !!{kind}")
        try:
            return _READ[kind](text.replace("_", ""))
        except OverflowError as error:
            return self._problem(node, keys, str(error))

    def _no_such_tag(self, node: yaml.Node, keys: Keys) -> None:
        tag = node.tag.replace(_TAG, "!!")
        self._problem(node, keys, f"the tag {tag} means nothing here: leave it out")

    def _problem(self, node: yaml.Node, keys: Keys, message: str) -> None:
        self.problems.append(self._problem_at(node, keys, message))

    def _problem_at(self, at: yaml.Node | yaml.Event, keys: Keys, message: str) -> Problem:
        return Problem(self._mark(at), ".".join(map(str, keys)), message)

    def _mark(self, at: yaml.Node | yaml.Event) -> Mark:
        start = at.start_mark
        return Mark(self.source, start.line + 1 if start and self.line is None else self.line or 0)


def _integer(text: str) -> int:
    """Decimal also with a 0 in front, as YAML 1.2 has it.

    Raises:
        OverflowError: it does not fit in 64 bits.
    """
    digits = text.lstrip("+-0")
    if len(digits) > 19 or not -_MAX_INT <= int(text) < _MAX_INT:  # Python refuses to read very long ones
        raise OverflowError(f"an integer of {len(digits)} digits does not fit in 64 bits")
    return int(text)


def _number(text: str) -> float:
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


_READ: dict[str, Callable[[str], Any]] = {
    "null": lambda _: None,
    "bool": "true".__eq__,
    "int": _integer,
    "float": _number,
}
