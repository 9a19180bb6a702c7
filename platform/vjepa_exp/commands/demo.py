"""`data demo`: the demo videos, made ahead of a run."""

from __future__ import annotations

import time
from pathlib import Path

from vjepa_exp.commands.console import console, progress
from vjepa_exp.graph.demo import FAMILIES
from vjepa_exp.graph.machine import this_machine
from vjepa_exp.graph.stage import Stage
from vjepa_exp.graph.store import Store
from vjepa_exp.runtime.demo_data import make_demo_data
from vjepa_exp.spec.datasets import Family
from vjepa_exp.spec.stages import DataRecipe


def demo(family: Family, store_root: Path) -> None:
    """Make a family of demo data in the store, where `run` finds it.

    Raises:
        UserError: the store is in use or cannot be written.
    """
    stage, store = demo_stage(family), Store(store_root)
    out = console()
    if store.record(stage) is None:
        with store.lock(), progress("demo clips") as show:
            begun = time.monotonic()
            made = make_demo_data(stage, store.begin(stage), this_machine().cores, show)
            store.commit(stage, made.metrics, made.files, {"seconds": round(time.monotonic() - begun, 1)})
    for name in sorted(store.path(stage).glob("*.parquet")):
        out.print(f"{name.stem}: {name}", soft_wrap=True)


def demo_stage(family: Family) -> Stage:
    """The stage that makes a family; the same one that a plan asks for."""
    return Stage("data", family, DataRecipe(family=family, digest=FAMILIES[family].digest))
