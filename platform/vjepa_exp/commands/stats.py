"""`data stats`: what a data set is made of, as tables and as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vjepa_exp.commands.console import console, grid
from vjepa_exp.commands.datasets import describe, manifest_path, open_manifest
from vjepa_exp.data.stats import QUANTILES, Stats
from vjepa_exp.data.stats import stats as dataset_stats
from vjepa_exp.report.dataset_figure import draw_dataset
from vjepa_exp.spec.errors import UserError

LISTED = 6


def stats(name: str, registry_file: Path, picture: Path | None) -> None:
    """Print durations, rates, sizes and classes of a data set and draw them.

    Raises:
        UserError: there is no such data set, none of its files can be read, or the picture cannot be written.
    """
    manifest, out = open_manifest(name, registry_file), console()
    if not len(manifest.decodable()):
        raise UserError(f"{name}: none of its {len(manifest)} files can be read")
    found = dataset_stats(manifest)
    describe(manifest)
    out.print()
    rows = [(measure, *(f"{value:.4g}" for value in values)) for measure, values in found.quantiles().items()]
    out.print(grid(("readable files", *QUANTILES, "mean"), rows, right=range(1, 7)))
    out.print()
    _frequent("width x height", found.sizes)
    if found.rates:
        _frequent("frames per second", {f"{rate:g}": count for rate, count in found.rates.items()})
    _classes(found, manifest.classes)
    path = picture or manifest_path(Path(name).stem if Path(name).is_file() else name, registry_file).with_suffix(
        ".png"
    )
    try:
        draw_dataset(found, f"{name}: {len(manifest)} files", path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from None
    out.print(f"picture: {path}", soft_wrap=True)


def _frequent(what: str, counts: Mapping[str, int]) -> None:
    total = sum(counts.values())
    shown = [f"{value} {count} ({count / total:.0%})" for value, count in list(counts.items())[:LISTED]]
    more = f", {len(counts) - LISTED} others" if len(counts) > LISTED else ""
    console().print(f"{what}: {', '.join(shown)}{more}", soft_wrap=True)


def _classes(found: Stats, names: tuple[str, ...]) -> None:
    out = console()
    for split, counts in found.labels.items():
        least, most = int(counts.argmin()), int(counts.argmax())
        text = f"from '{names[least]}' ({counts[least]} files) to '{names[most]}' ({counts[most]})"
        out.print(f"classes in {split}: {(counts > 0).sum()} of {len(counts)}, {text}", soft_wrap=True)
    if found.unlabelled:
        out.print(f"files without a class: {found.unlabelled}")
