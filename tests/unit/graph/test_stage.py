from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from vjepa_exp.graph.demo import FAMILIES, DemoSpec
from vjepa_exp.graph.stage import Stage, digest
from vjepa_exp.spec.stages import DataRecipe


def data(digest_of_set: str = "a", name: str = "tiny") -> Stage:
    return Stage("data", name, DataRecipe(family="tiny", digest=digest_of_set))


def test_the_name_is_no_part_of_the_fingerprint_but_recipe_and_inputs_are() -> None:
    assert data(name="other").fingerprint == data().fingerprint
    assert data("b").fingerprint != data().fingerprint
    after_a, after_b = replace(data(), inputs=(data("x"),)), replace(data(), inputs=(data("y"),))
    assert len({data().fingerprint, after_a.fingerprint, after_b.fingerprint}) == 3


def test_the_order_of_inputs_does_not_matter() -> None:
    first, second = data("x"), data("y")
    a, b = replace(data(), inputs=(first, second)), replace(data(), inputs=(second, first))
    assert a.fingerprint == b.fingerprint


def test_the_id_names_kind_stage_and_fingerprint() -> None:
    assert data().id == f"data-tiny-{data().fingerprint[:8]}"


def test_a_digest_is_the_same_in_every_process_and_for_every_order_of_keys() -> None:
    assert digest({"a": 1, "b": [0.1, None, "ü"]}) == digest({"b": (0.1, None, "ü"), "a": 1})
    assert digest({"lr": 6.25e-4}) == sha256(b'{"lr":0.000625}').hexdigest()


@pytest.mark.parametrize("value", [Path("x"), {1: "a"}, {"a": {2}}, b"x", [object()]])
def test_a_value_without_a_stable_form_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="no stable form"):
        digest(value)


def test_a_digest_refuses_numbers_that_are_none() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest([float("nan")])


def test_every_setting_of_the_demo_data_enters_its_digest() -> None:
    base = FAMILIES["demo"]
    for name, value in base.model_dump().items():
        other = DemoSpec(**{**base.model_dump(), name: "x" if isinstance(value, str) else value + 1})
        assert other.digest != base.digest, name
