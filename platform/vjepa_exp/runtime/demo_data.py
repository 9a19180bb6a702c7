"""Data stages: make a family of demo data and its manifests in the store."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from vjepa_exp.data.demo import make_demo
from vjepa_exp.data.guard import each_locally
from vjepa_exp.data.index import index
from vjepa_exp.data.manifest import Manifest, write_manifest
from vjepa_exp.graph.demo import FAMILIES
from vjepa_exp.graph.stage import Stage
from vjepa_exp.runtime.job import Outcome, manifest_name
from vjepa_exp.spec.datasets import DEMO_SETS
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.stages import DataRecipe

CONTENT = "files"
DEADLINE_S = 120.0


def make_demo_data(stage: Stage, folder: Path, processes: int, progress: Callable[[int, int], None]) -> Outcome:
    """Make the clips and stills of a demo family below `folder`.

    Raises:
        UserError: the folder cannot be written, or a file was not read: nothing is done then, and the next call looks
            at all files again.
    """
    recipe = stage.recipe
    assert isinstance(recipe, DataRecipe)
    root = folder / CONTENT
    make_demo(root, FAMILIES[recipe.family], processes, progress)
    each = partial(each_locally, processes=processes, deadline_s=DEADLINE_S)
    datasets = [name for name, (family, _) in DEMO_SETS.items() if family == recipe.family]
    counts: dict[str, float] = {}
    for dataset in datasets:
        task = dataset.removeprefix(f"{recipe.family}_")
        manifest = index(root / f"demo_{task}.csv", each=each)
        _require_all(manifest, root)
        write_manifest(manifest, folder / manifest_name(dataset))
        counts[dataset] = len(manifest.decodable())
    return Outcome(metrics=counts, coverage={}, files=[manifest_name(dataset) for dataset in datasets])


def _require_all(manifest: Manifest, root: Path) -> None:
    """Refuse a manifest that lacks files: they are ours and good, so that their reader was killed or too slow."""
    lost = manifest.unreadable()
    if lost:
        path, reason = lost[0]
        raise UserError(
            f"{len(lost)} of {len(manifest)} demo files were not read, such as {path}: {reason}; the same command "
            f"looks at them again, and makes them anew if you delete {root}"
        )
