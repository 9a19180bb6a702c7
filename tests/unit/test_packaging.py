"""The wheel holds what it must and works outside the checkout; the pins cover what the project asks for."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# The three packages before everything on the path, and the source tree of the editable install not on it.
OUTSIDE = """
import sys
sys.path[:] = [{wheel!r}] + [entry for entry in sys.path if not entry.startswith({root!r} + '/') or '.venv' in entry]
sys.argv = ['vjepa-exp', *{arguments!r}]
import vjepa_exp
assert vjepa_exp.__file__.startswith({wheel!r}), vjepa_exp.__file__
from vjepa_exp.cli import main
main()
"""


@pytest.fixture(scope="module")
def wheel(repo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, repo_root]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return next(out.glob("vjepa_exp-*.whl"))


def test_wheel_holds_the_packages_and_every_experiment_and_cluster(repo_root: Path, wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        str(Path("vjepa_exp/_experiments") / path.relative_to(repo_root / "experiments"))
        for path in (repo_root / "experiments").rglob("*.yaml")
    }
    expected |= {f"vjepa_exp/_clusters/{path.name}" for path in (repo_root / "clusters").glob("*.yaml")}
    for source_root in ("platform", "models", "ablations"):
        folder = repo_root / source_root
        expected |= {str(path.relative_to(folder)) for path in folder.rglob("*.py")}
        expected |= {str(path.relative_to(folder)) for path in folder.rglob("py.typed")}
    assert expected <= names
    top_level = {name.split("/")[0] for name in names}
    assert {name for name in top_level if not name.endswith(".dist-info")} == {
        "vjepa_exp",
        "vjepa_models",
        "vjepa_ablations",
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ["list"],
        ["validate", "experiments/quickstart.yaml"],
        ["validate", "clusters/aws-a100.yaml"],
        ["plan", "experiments/table4_masking.yaml"],
        ["cluster", "render", "gcp-a100", "--out", "rendered"],
    ],
    ids=" ".join,
)
def test_wheel_works_outside_the_checkout(repo_root: Path, wheel: Path, tmp_path: Path, arguments: list[str]) -> None:
    unpacked = tmp_path / "wheel"
    zipfile.ZipFile(wheel).extractall(unpacked)
    code = OUTSIDE.format(wheel=str(unpacked), root=str(repo_root), arguments=arguments)
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()


def test_constraints_pin_every_requirement(repo_root: Path) -> None:
    project = tomllib.loads((repo_root / "pyproject.toml").read_text())
    lines = (repo_root / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    versions = {canonicalize_name(name): version for name, version in pins.items()}
    groups = project["dependency-groups"]
    for line in [*project["project"]["dependencies"], *groups["dev"], *groups["gcs"]]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), line
