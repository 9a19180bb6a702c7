"""Collections: what is wrong with the files that they name."""

from __future__ import annotations

from pathlib import Path

import pytest

from vjepa_exp.spec.collection import collected
from vjepa_exp.spec.document import read_yaml
from vjepa_exp.spec.errors import SpecError


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mmmmmmmmmmm.yaml", "'mmmmmmmmmmm.yaml' is a directory"),
        ("mmmmmmmmmm.yaml", "there is no file 'mmmmmmmmmm.yaml' beside this one."),
        ("table_fou.yaml", "there is no file 'table_fou.yaml' beside this one. Did you mean 'table_four.yaml'?"),
        (f"{'x' * 300}.yaml", f"'{'x' * 300}.yaml' cannot be read: File name too long"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "mmmmmmmmmmm.yaml").mkdir()
    (tmp_path / "table_four.yaml").write_text("name: four\n")
    file = tmp_path / "all.yaml"
    file.write_text(f"name: all\nexperiments: [table_four.yaml, {name}]\n")
    with pytest.raises(SpecError) as caught:
        collected(read_yaml(file))
    assert str(caught.value) == f"{file}:2: experiments.1: {message}"
