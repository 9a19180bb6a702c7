"""The shape of the repository: source roots, file sizes, import direction and the start of the command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "ray", "numpy", "mlflow", "decord", "matplotlib")


def check_layout(repo_root: Path, tree: Path) -> subprocess.CompletedProcess[str]:
    script = repo_root / ".ci" / "check_layout.py"
    return subprocess.run([sys.executable, "-I", script, tree], capture_output=True, text=True, check=False)


def test_tree_has_the_documented_layout(repo_root: Path) -> None:
    result = check_layout(repo_root, repo_root)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("platform/__init__.py", ""),
        ("models/vit.py", "x = 1\n"),
        ("ablations/__init__.py", ""),
        ("experiments/table4.py", ""),
        ("tests/unit/__init__.py", ""),
        ("platform/vjepa_exp/train/loop.py", "x = 1\n" * 501),
    ],
)
def test_layout_check_names_the_file_that_breaks_it(repo_root: Path, tmp_path: Path, path: str, text: str) -> None:
    assert check_layout(repo_root, tmp_path).returncode == 0
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(text)
    result = check_layout(repo_root, tmp_path)
    assert result.returncode == 1
    assert path in result.stderr


@pytest.mark.parametrize("python_path", [None, "."])
def test_standard_platform_module_wins_in_the_repository_root(repo_root: Path, python_path: str | None) -> None:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if python_path is not None:
        env["PYTHONPATH"] = python_path
    # `-c` puts the working directory first on the path, as `python script.py` in the root would.
    code = "import platform, sys, uuid; print(platform.__file__.startswith(sys.base_prefix))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=repo_root, env=env, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "True"


def test_import_contracts_hold(repo_root: Path) -> None:
    result = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=repo_root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def imported_by(code: str, cwd: Path) -> set[str]:
    """The heavy modules that a fresh interpreter holds after `code`, whatever `code` prints."""
    program = (
        "import atexit, json, sys\n"
        f"atexit.register(lambda: print('\\n' + json.dumps([m for m in {HEAVY} if m in sys.modules])))\n{code}"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=cwd, capture_output=True, text=True, check=True)
    return set(json.loads(result.stdout.splitlines()[-1]))


@pytest.mark.parametrize("package", ["vjepa_exp", "vjepa_models", "vjepa_ablations"])
def test_importing_a_package_is_light(tmp_path: Path, package: str) -> None:
    assert imported_by(f"import {package}", tmp_path) == set()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["list"],
        ["validate", "experiments/quickstart.yaml"],
        ["validate", "clusters/kuberay-a100.yaml"],
        ["plan", "experiments/table4_masking.yaml", "--profile", "paper"],
        ["plan", "experiments/paper.yaml", "--profile", "paper"],
        ["plan", "experiments/paper.yaml", "--profile", "paper", "--cluster", "aws-a100", "--simulate", "64"],
    ],
    ids=" ".join,
)
def test_command_starts_without_heavy_imports(repo_root: Path, tmp_path: Path, arguments: list[str]) -> None:
    shutil.copytree(repo_root / "experiments", tmp_path / "experiments")
    code = f"sys.argv = ['vjepa-exp', *{arguments}]\nfrom vjepa_exp.cli import main\nmain()"
    assert imported_by(code, tmp_path) & {"torch", "ray"} == set()


@pytest.mark.parametrize("module", ["sweep", "entry", "process_group", "group"])
def test_what_the_driver_and_rays_controller_read_needs_no_torch(tmp_path: Path, module: str) -> None:
    """Training workers wait for both; trials and workers import the rest later."""
    assert "torch" not in imported_by(f"import vjepa_exp.runtime.{module}", tmp_path)
