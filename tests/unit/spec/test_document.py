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


def test_a_key_given_twice_is_reported_at_its_second_line() -> None:
    with pytest.raises(SpecError, match=r"x.yaml:3: a: key is given twice"):
        parse_yaml("a: 1\nb: 2\na: 3\n", "x.yaml")
