import subprocess
import sys
from itertools import pairwise

import pytest

from vjepa_models.keyed_rng import keyed_rng, keyed_seed


def test_streams_are_those_of_every_other_process_and_version() -> None:
    # Written down once: runs must see the same crops and masks after an upgrade of numpy.
    assert keyed_rng(234, "mask.blocks", 1, 7).random(3).tolist() == pytest.approx(
        [0.387465937467973, 0.7521817724930604, 0.03715770545736519], abs=1e-15
    )
    assert keyed_seed(234, "encoder.blocks.0.attn.qkv") == 5268097799245811659


@pytest.mark.parametrize(
    "other", [(235, "crop", 3, 4), (234, "flip", 3, 4), (234, "crop", 4, 3), (234, "crop", 34), (234, "crop", 3, 4, 0)]
)
def test_seed_purpose_and_every_index_change_the_stream(other: tuple[int, str, int]) -> None:
    seed, purpose, *index = other
    assert keyed_rng(seed, purpose, *index).random() != keyed_rng(234, "crop", 3, 4).random()
    assert keyed_seed(seed, purpose, *index) != keyed_seed(234, "crop", 3, 4)


def test_neighbouring_indices_are_uncorrelated() -> None:
    draws = [keyed_rng(0, "x", i).random() for i in range(2000)]
    mean = sum(draws) / 2000
    lag = sum((a - mean) * (b - mean) for a, b in pairwise(draws)) / 2000
    assert mean == pytest.approx(0.5, abs=0.03)
    assert lag / (1 / 12) == pytest.approx(0.0, abs=0.08)


def test_masks_and_archs_come_without_torch() -> None:
    code = "import sys, vjepa_models.masks, vjepa_models.archs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
