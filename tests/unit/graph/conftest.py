from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vjepa_exp.spec.datasets import Registry
from vjepa_exp.spec.load import ResolvedExperiment, read_experiment, resolve

EXPERIMENT = """\
name: small
recipe:
  seed: 3
  model: {arch: vit_tiny, predictor: {depth: 2, embed_dim: 96}}
  pretrain:
    data:
      mixture: [{dataset: tiny_motion}]
      clip: {num_frames: 8, resolution: 64}
    mask_group_size: 4
    optim: {batch_size: 8, iterations: 10, warmup: 2}
  evaluate:
    looks: {kind: attentive_probe, dataset: tiny_appearance}
    moves: {kind: attentive_probe, dataset: tiny_motion}
"""

Load = Callable[..., ResolvedExperiment]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Resolve a small experiment with more YAML lines behind it (line 14 on) and `--set` options."""

    def load(more: str = "", *sets: str) -> ResolvedExperiment:
        path = tmp_path / "small.yaml"
        path.write_text(EXPERIMENT + more, encoding="utf-8")
        return resolve(read_experiment(path), "paper", sets)

    return load


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """A registry without data sets of its own."""
    return Registry(tmp_path / "datasets.yaml")
