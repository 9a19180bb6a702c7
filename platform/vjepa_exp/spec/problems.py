"""Pydantic's errors as lines a person can act on: file, line, path, the value, what is allowed, the nearest name."""

from __future__ import annotations

import difflib
import json
import types
from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from vjepa_exp.spec.base import NAME
from vjepa_exp.spec.document import Document, Keys
from vjepa_exp.spec.errors import Problem, SpecError
from vjepa_exp.spec.vary import FACTOR

_SHAPES = {
    NAME: "may hold only letters, digits, '_', '.' and '-', and begins with a letter or a digit",
    FACTOR: "is not of the form file.function, in lower case, as in masking.table4",
}
"""What texts of a pattern look like, in words."""
M = TypeVar("M", bound=BaseModel)


def validate(model: type[M], document: Document, prefix: Keys = ()) -> M:
    """Validate a document strictly, as JSON data (so that a list may fill a tuple, but "3" never an integer).

    Raises:
        SpecError: with every problem of the document.
    """
    try:
        return model.model_validate_json(json.dumps(document.data))
    except ValidationError as error:
        details = [d for d in error.errors(include_url=False) if not _follows_from_another(d, error)]
        raise SpecError([_problem(model, document, detail, prefix) for detail in details]) from None


def _follows_from_another(detail: ErrorDetails, error: ValidationError) -> bool:
    """A list whose item is wrong is also called too short: report the item alone."""
    loc = detail["loc"]
    return detail["type"] == "too_short" and any(
        len(other["loc"]) > len(loc) and other["loc"][: len(loc)] == loc for other in error.errors()
    )


def nearest(word: str, known: Iterable[str]) -> str:
    """' Did you mean ...?' if a known name is close to `word`, else ''."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""


def _problem(model: type[BaseModel], document: Document, detail: ErrorDetails, prefix: Keys) -> Problem:
    keys = _data_keys(document, detail["loc"])
    message = _message(model, detail)
    if detail["type"] == "value_error":
        keys, message = _pointed_at(document, keys, message)
    return Problem(document.mark(keys), ".".join(map(str, (*prefix, *keys))), message)


def _data_keys(document: Document, loc: tuple[int | str, ...]) -> Keys:
    """Pydantic puts the tags of unions into the location; keep what exists in the data (and a missing last key)."""
    keys: Keys = ()
    for i, key in enumerate(loc):
        inside = document.get(keys)
        known = (isinstance(inside, dict) and key in inside) or (isinstance(inside, list) and isinstance(key, int))
        if known or (i == len(loc) - 1 and isinstance(inside, dict) and key != inside.get("kind")):
            keys = (*keys, key)
    return keys


def _pointed_at(document: Document, keys: Keys, message: str) -> tuple[Keys, str]:
    """A validator's message may begin with the path of the field that it means: point there and leave the path out."""
    first, _, rest = message.partition(" ")
    for base in (keys, keys[:-1]):
        named = document.keys(first.rstrip(":"), base)
        if document.get(named) is not None:
            return named, rest
    return keys, message


def _message(model: type[BaseModel], detail: ErrorDetails) -> str:
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        known = _fields_at(model, detail["loc"][:-1])
        close = nearest(str(detail["loc"][-1]), known)
        return "unknown key." + (close or f" Known keys: {', '.join(known)}.")
    if kind == "literal_error":
        return f"{value!r} is not one of {context['expected']}.{nearest(str(value), _quoted(context['expected']))}"
    if kind == "union_tag_invalid":
        tags = context["expected_tags"]
        return f"kind '{context['tag']}' is not one of {tags}.{nearest(str(context['tag']), _quoted(tags))}"
    if kind == "union_tag_not_found":
        return "needs a 'kind'"
    if kind == "value_error":
        return str(context["error"])
    if kind == "string_pattern_mismatch":
        return f"{_short(value)} {_SHAPES.get(context['pattern'], 'does not match ' + context['pattern'])}"
    text = detail["msg"][0].lower() + detail["msg"][1:]
    return f"{text.replace('input should', 'should')}, not {_short(value)}"


def _short(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _quoted(names: str) -> list[str]:
    return [name.strip(" '\"") for name in names.replace(" or ", ",").split(",")]


def _fields_at(annotation: Any, loc: tuple[int | str, ...]) -> list[str]:
    """Names of the fields that the spec at `loc` has."""
    annotation = _unwrap(annotation)
    if not loc:
        return list(annotation.model_fields) if _is_spec(annotation) else []
    head, rest = loc[0], loc[1:]
    if _is_spec(annotation):
        info = annotation.model_fields.get(str(head))
        return _fields_at(info.annotation, rest) if info else []
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        for member in map(_unwrap, arguments):
            if _is_spec(member) and "kind" in member.model_fields and head in _tags(member):
                return _fields_at(member, rest)
        specs = [member for member in map(_unwrap, arguments) if member is not type(None)]
        return _fields_at(specs[0], loc) if len(specs) == 1 else []
    if origin is dict:
        return _fields_at(arguments[1], rest)
    if origin in (tuple, list):
        return _fields_at(arguments[0], rest)
    return []


def _unwrap(annotation: Any) -> Any:
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation


def _is_spec(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _tags(member: type[BaseModel]) -> tuple[Any, ...]:
    annotation = member.model_fields["kind"].annotation
    return get_args(annotation) if get_origin(annotation) is Literal else ()
