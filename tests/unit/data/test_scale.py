"""Large manifests: memory by the row, not by the Python object. A sixth of the rows of the figures in benchmarks/."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is counted in another unit")
def test_a_large_manifest_is_read_and_laid_out_in_little_memory(repo_root: Path) -> None:
    command = [sys.executable, repo_root / "benchmarks" / "manifest_scale.py", "--rows", "350000"]
    figures = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    assert figures["peak_mib"] - figures["imports_mib"] < 130  # 88 measured; a Python object a row takes over 250
    assert figures["read_s"] + figures["lay_out_s"] + figures["batch_s"] < 20  # 0.5 on an idle machine
