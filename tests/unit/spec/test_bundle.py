"""An experiment that travels is the experiment that it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from vjepa_exp.spec.bundle import bundle
from vjepa_exp.spec.collection import collected
from vjepa_exp.spec.document import parse_yaml, read_yaml, to_yaml
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.load import read_experiment, resolve


def write(texts: dict[str, str], folder: Path) -> None:
    folder.mkdir()
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


@pytest.mark.parametrize("name", ["table4_masking", "quickstart", "table6_frozen", "sweep_per_encoder"])
def test_it_resolves_to_the_same_under_every_profile(repo_root: Path, tmp_path: Path, name: str) -> None:
    file = read_experiment(repo_root / "experiments" / f"{name}.yaml")
    write(bundle("sent", [file]), tmp_path / "sent")
    arrived = read_experiment(tmp_path / "sent" / "sent.yaml")
    assert arrived.profile_names == file.profile_names
    for profile in file.profile_names:
        here, there = resolve(file, profile), resolve(arrived, profile)
        assert there.experiment.recipe == here.experiment.recipe
        assert there.experiment.execution == here.experiment.execution
        assert there.experiment.vary == here.experiment.vary
        assert (there.profile, there.substituted) == (here.profile, here.substituted)


def test_a_collection_travels_with_its_members(repo_root: Path, tmp_path: Path) -> None:
    folder = repo_root / "experiments"
    files = [read_experiment(folder / name) for name in ("table4_masking.yaml", "quickstart.yaml")]
    write(bundle("two", files), tmp_path / "sent")
    members = collected(read_yaml(tmp_path / "sent" / "two.yaml"))
    assert [read_experiment(member).profile_names for member in members] == [file.profile_names for file in files]


def test_two_members_of_one_file_name_are_refused(repo_root: Path) -> None:
    file = read_experiment(repo_root / "experiments" / "quickstart.yaml")
    with pytest.raises(UserError, match="two of its experiments have one file name"):
        bundle("two", [file, file])


def test_yaml_reads_back_as_what_was_written() -> None:
    """Our YAML is that of version 1.2: what PyYAML alone would leave bare is another type there, or the reverse."""
    shared = [1.0e-6, 2]
    data = {"text": ["1e-3", "no", "true", "null", "2024-04-15", "0x10", "1_000", "é", ""], "a": shared, "b": shared}
    text = to_yaml({**data, "numbers": [1e-3, 1e22, 5, True, None]})
    assert parse_yaml(text, "here").data == {**data, "numbers": [1e-3, 1e22, 5, True, None]}
    assert "&id" not in text
    assert yaml.safe_load(text)["a"] == shared
