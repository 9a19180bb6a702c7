"""The wheel that travels with a job: Ray installs it with plain pip and keeps it by its name."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from vjepa_exp.cluster.wheel import build_wheel


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package with a data file, and with what nobody wants."""
    folder = tmp_path / "source" / "vjepa_exp"
    (folder / "__pycache__").mkdir(parents=True)
    (folder / "__init__.py").write_text("ANSWER = 1\n")
    (folder / "__pycache__" / "old.pyc").write_bytes(b"old")
    (folder / "table é.yaml").write_text("name: x\n")
    return folder


def test_pip_installs_it_and_nothing_else_from_nowhere(package: Path, tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path, {"vjepa_exp": package}, "0.1.0+g2c7a6df0.dirty")
    target = tmp_path / "target"
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--quiet", str(wheel), f"--target={target}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    installed = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert {"vjepa_exp/__init__.py", "vjepa_exp/table é.yaml"} <= installed
    assert not any("old" in name for name in installed)
    [info] = target.glob("*.dist-info")
    version = info.name.removesuffix(".dist-info").removeprefix("vjepa_exp-")
    assert version.startswith("0.1.0+g2c7a6df0.dirty.h")
    assert "Requires-Dist" not in (info / "METADATA").read_text()


def test_equal_code_is_one_file_and_other_code_another(package: Path, tmp_path: Path) -> None:
    def build(place: str) -> Path:
        (tmp_path / place).mkdir()
        return build_wheel(tmp_path / place, {"vjepa_exp": package}, "0.1.0")

    first, again = build("a"), build("b")
    assert first.name == again.name
    assert first.read_bytes() == again.read_bytes()
    (package / "__init__.py").write_text("ANSWER = 2\n")
    assert build("c").name != first.name


def test_the_wheel_of_this_code_is_complete(repo_root: Path, tmp_path: Path) -> None:
    from vjepa_exp.commands.jobs import code_wheel

    names = set(zipfile.ZipFile(code_wheel(tmp_path)).namelist())
    for source_root, inside in (("platform", ""), ("models", ""), ("ablations", "")):
        files = (repo_root / source_root).rglob("*.py")
        assert {inside + path.relative_to(repo_root / source_root).as_posix() for path in files} <= names
    for folder, inside in (("experiments", "vjepa_exp/_experiments"), ("clusters", "vjepa_exp/_clusters")):
        files = (repo_root / folder).rglob("*.yaml")
        assert {f"{inside}/{path.relative_to(repo_root / folder).as_posix()}" for path in files} <= names
