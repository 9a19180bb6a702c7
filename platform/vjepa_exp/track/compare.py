"""What differs between the variants of a study, and the page of MLflow that compares them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from vjepa_exp.graph.variants import Variant

ABSENT = "absent"
"""Value of a field that a variant does not have, such as those of a second mask."""
VIEW = "workflowType=machine_learning"  # which MLflow may have left for its pages on language models
MOST_RUNS = 100
"""More runs make no page that a person reads, and their ids no tag that MLflow takes."""


def variant_key(variant: Variant) -> str:
    """By which a variant is known in the ledger."""
    return f"{variant.name}/{variant.seed}"


def flat(value: Any, prefix: str = "") -> dict[str, str]:
    """Nested JSON data as dotted names and texts of at most 6000 characters (MLflow's limit)."""
    if isinstance(value, Mapping):
        items: Iterable[tuple[object, Any]] = value.items()
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        items = enumerate(value)
    else:
        return {prefix: str(value)[:6000]}
    below = (flat(inner, f"{prefix}.{key}" if prefix else str(key)) for key, inner in items)
    return {name: text for part in below for name, text in part.items()}


def differences(variants: Sequence[Variant]) -> dict[str, dict[str, str]]:
    """Key of a variant -> `vary.<recipe field>` and its value, for the fields in which the variants differ.

    The seed is left out: variants that differ in it alone are repeats.
    """
    recipes = {variant_key(variant): flat(variant.recipe.to_json()) for variant in variants}
    names = dict.fromkeys(name for recipe in recipes.values() for name in recipe if name != "seed")
    varied = [name for name in names if len({recipe.get(name, ABSENT) for recipe in recipes.values()}) > 1]
    return {key: {f"vary.{name}": recipe.get(name, ABSENT) for name in varied} for key, recipe in recipes.items()}


def agreed(values: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """What is the same in all of them: of a stage that serves several variants, what it is by."""
    first, *others = values
    return {name: value for name, value in first.items() if all(other[name] == value for other in others)}


def web_page(uri: str) -> str | None:
    """Address of a server's pages, without a password that its URI may hold; None where the URI is a database."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https"):
        return None
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}/"


def compare_page(runs: Sequence[str], experiment: str) -> str:
    """MLflow's page that compares runs, below the address of its server."""
    asked = {"runs": list(runs[:MOST_RUNS]), "experiments": [experiment]}
    lists = (f"{name}={quote(json.dumps(ids, separators=(',', ':')), safe=',')}" for name, ids in asked.items())
    return f"#/compare-runs?{'&'.join(lists)}&{VIEW}"
