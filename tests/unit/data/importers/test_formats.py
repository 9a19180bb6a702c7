from __future__ import annotations

from typing import get_args

from vjepa_exp.cli import PublicSet
from vjepa_exp.data.importers.formats import FORMATS
from vjepa_exp.spec.datasets import PAPER_SETS


def test_every_data_set_of_the_paper_can_be_imported_under_its_name() -> None:
    assert set(FORMATS) == set(PAPER_SETS) == set(get_args(PublicSet))
