from __future__ import annotations

import pytest

from vjepa_exp.spec.document import parse_yaml
from vjepa_exp.spec.errors import SpecError

MERGED = """\
base: &base
  dataset: a
  epochs: 3
other:
  <<: *base
  dataset: b
same: *base
again: {<<: *base, epochs: 4}
"""


def test_merge_keys_bring_values_that_own_keys_win_over() -> None:
    document = parse_yaml(MERGED, "x.yaml")
    assert document.data["other"] == {"dataset": "b", "epochs": 3}
    assert document.data["same"] == {"dataset": "a", "epochs": 3}
    assert document.data["again"] == {"dataset": "a", "epochs": 4}
    assert str(document.mark(("other", "dataset"))) == "x.yaml:6"
    assert str(document.mark(("other", "epochs"))) == "x.yaml:3"


def test_an_alias_of_a_merging_mapping_has_no_key_twice() -> None:
    document = parse_yaml(MERGED + "copy: &copy {<<: *base, dataset: c}\nlast: *copy\n", "x.yaml")
    assert document.data["last"] == {"dataset": "c", "epochs": 3}


def test_a_number_in_a_path_counts_in_a_list_and_is_a_name_elsewhere() -> None:
    document = parse_yaml("a: [{'1': {b: 2}}, 3]\n'0': {b: [4]}\n", "x.yaml")
    assert document.keys("a.0.1.b") == ("a", 0, "1", "b")
    assert document.keys("b.0", ("0",)) == ("0", "b", 0)
    assert document.keys("a.²") == ("a", "²")
    assert document.keys(f"a.{'1' * 5000}") == ("a", "1" * 5000)
    assert document.keys("nothing.0") == ("nothing", "0")


def test_what_is_put_in_the_place_of_all_replaces_it() -> None:
    document = parse_yaml("a: 1\nb: 2\n", "x.yaml")
    document.put((), parse_yaml("c: 3\n", "y.yaml"))
    assert (document.data, str(document.mark(("c",)))) == ({"c": 3}, "y.yaml:1")
    assert ("a",) not in document.marks


def test_a_key_given_twice_is_reported_at_its_second_line() -> None:
    with pytest.raises(SpecError, match=r"x.yaml:3: a: key is given twice"):
        parse_yaml("a: 1\nb: 2\na: 3\n", "x.yaml")
