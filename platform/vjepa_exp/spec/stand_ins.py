"""Stand-ins: the data sets that a profile shows in the place of others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vjepa_exp.spec.document import Document, Keys


def stand_in(document: Document, at: Keys, stand_ins: Mapping[str, str]) -> dict[str, str]:
    """Put the stand-in for the data set that is named at `at`; what was replaced, by what."""
    name = document.get(at)
    if not isinstance(name, str) or name not in stand_ins:
        return {}
    document.put(at, Document(stand_ins[name], {(): document.mark(at)}))
    return {name: stand_ins[name]}


def stand_in_mixture(document: Document, at: Keys, stand_ins: Mapping[str, str]) -> dict[str, str]:
    """Put stand-ins into the mixture at `at`; what was replaced, by what.

    Entries that show one set because of it become one, with the sum of their weights. All others stay as they are.
    """
    entries = document.get(at)
    done, kept = dict[str, str](), list[_Entry]()
    for i in range(len(entries) if isinstance(entries, list) else 0):
        entry = _Entry(document.part((*at, i)))
        if replaced := stand_in(entry.document, ("dataset",), stand_ins):
            done |= replaced
            entry.stands_in = True
            entry.drop("exclude")  # a removal list is of one set, and of none that stands in for it
        if not any(other.take(entry) for other in kept):
            kept.append(entry)
    if done:
        marks = {(i, *keys): mark for i, entry in enumerate(kept) for keys, mark in entry.document.marks.items()}
        document.put(at, Document([entry.document.data for entry in kept], {(): document.mark(at), **marks}))
    return done


@dataclass
class _Entry:
    """An entry of a mixture, and whether it stands in for another set."""

    document: Document
    stands_in: bool = False

    def drop(self, field: str) -> None:
        self.document.data.pop(field, None)
        self.document.marks.pop((field,), None)

    def take(self, other: _Entry) -> bool:
        """Become one with an entry that shows the same set, unless both were written so: that is a mistake to report.

        Without weights sets are sampled by their sizes, and one set has one size. Weights add up; of one that is there
        and one that is missing, or is none, no sum can be made, and both stay for the validation to find.
        """
        mine, theirs = self.document.data, other.document.data
        if not isinstance(mine, dict) or mine.get("dataset") is None or mine["dataset"] != other.dataset:
            return False
        weights = [entry["weight"] for entry in (mine, theirs) if entry.get("weight") is not None]
        if not (self.stands_in or other.stands_in) or len(weights) == 1 or not all(map(_is_weight, weights)):
            return False
        self.document = Document({**theirs, **mine}, {**other.document.marks, **self.document.marks})
        if weights:
            self.document.data["weight"] = sum(weights)
        self.stands_in = True
        return True

    @property
    def dataset(self) -> Any:
        return self.document.get(("dataset",))


def _is_weight(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0
