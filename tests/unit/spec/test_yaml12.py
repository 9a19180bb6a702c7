"""Text as plain data of YAML 1.2, and what has no plain data as a problem with its line."""

from __future__ import annotations

import json

import pytest

from vjepa_exp.spec.document import parse_yaml
from vjepa_exp.spec.errors import SpecError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10),
        ("09", 9),
        ("-007", -7),
        ("1_000", 1000),
        ("9223372036854775807", 2**63 - 1),
        ("1e-3", 0.001),
        (".5", 0.5),
        ("1_0.5", 10.5),
        ("-.inf", float("-inf")),
        ("!!float 5", 5.0),
        ("!!str 010", "010"),
        ("!!int '5'", 5),
        ("2024-04-15", "2024-04-15"),
        ("12:30", "12:30"),
        ("no", "no"),
        ("<<", "<<"),
        ("~", None),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    data = parse_yaml(f"a: {text}\n", "x.yaml").data["a"]
    assert data == value
    assert type(data) is type(value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: " + "1" * 5000, "x.yaml:2: b: an integer of 5000 digits does not fit in 64 bits"),
        ("a: 9223372036854775808", "x.yaml:1: a: an integer of 19 digits does not fit in 64 bits"),
        ("a: 1\n? [a, b]\n: 2", "x.yaml:2: a key is a word or a number, and this one is a list or a mapping"),
        ("a:\n  <<: {? {b: 1} : 2}", "x.yaml:2: a: a key is a word or a number, and this one is a list or a mapping"),
        ("a: 1\nb: &b [*b]", "x.yaml:2: b.0: stands in itself"),
        ("a: 1\nb: &b {c: {d: *b}}", "x.yaml:2: b.c.d: stands in itself"),
        ("a: 1\nb: &b {<<: *b}", "x.yaml:2: b: stands in itself"),
        ("a: {<<: 5}", "x.yaml:1: a: '<<' needs a mapping, or a list of mappings"),
        ("a: !!int abc", "x.yaml:1: a: 'abc' is no value of !!int"),
        ("a: !!int ''", "x.yaml:1: a: '' is no value of !!int"),
        ("a: !!float abc", "x.yaml:1: a: 'abc' is no value of !!float"),
        ("a: !!bool foo", "x.yaml:1: a: 'foo' is no value of !!bool"),
        ("a: !!timestamp abc", "x.yaml:1: a: the tag !!timestamp means nothing here: leave it out"),
        ("a: !!timestamp 2024-01-01", "x.yaml:1: a: the tag !!timestamp means nothing here: leave it out"),
        ("a: !!binary aGk=", "x.yaml:1: a: the tag !!binary means nothing here: leave it out"),
        ("!!binary aGk=: 1", "x.yaml:1: the tag !!binary means nothing here: leave it out"),
        ("a:\n  b: !mine {c: 1}", "x.yaml:2: a.b: the tag !mine means nothing here: leave it out"),
    ],
)
def test_what_is_no_plain_data_is_refused_at_its_line(text: str, problem: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_yaml(text, "x.yaml")
    assert str(caught.value) == problem


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\nb: " + "[" * 3000 + "]" * 3000,
        "a: 1\nb: " + "[" * 300_000 + "]" * 300_000,  # libyaml's composer ends the process
        "l0: &l0 {a: 1}\n" + "".join(f"l{i}: &l{i} {{a: *l{i - 1}}}\n" for i in range(1, 2000)),
        "l0: &l0 {a: 1}\n" + "".join(f"l{i}: &l{i} {{<<: *l{i - 1}}}\n" for i in range(1, 2000)),
    ],
)
def test_what_is_too_deep_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match=r"x.yaml:\d+:.* lists and mappings stand in each other, over 64 deep"):
        parse_yaml(text, "x.yaml")


def test_aliases_of_aliases_do_not_fill_the_memory() -> None:
    text = "l0: &l0 [1]\n" + "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]\n" for i in range(1, 9))
    with pytest.raises(SpecError, match="aliases make more than 100000 values of the file"):
        parse_yaml(text, "x.yaml")


def test_what_is_read_can_be_written_as_json() -> None:
    depth = 60  # the limit, and what may be laid around a block by those who use it
    text = "a: " + "[" * depth + "]" * depth
    assert json.loads(json.dumps(parse_yaml(text, "x.yaml").data))["a"]


def test_an_option_is_read_in_the_same_way() -> None:
    assert parse_yaml("09", "--set recipe.seed=09", line=0).data == 9
    with pytest.raises(SpecError, match=r"--set seed=!!int x: 'x' is no value of !!int"):
        parse_yaml("!!int x", "--set seed=!!int x", line=0)
