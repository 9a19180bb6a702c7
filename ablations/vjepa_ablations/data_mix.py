"""What the encoder is pretrained on (paper section 4.2, Table 2)."""

from __future__ import annotations

from collections.abc import Iterator

from vjepa_ablations.ablation import Level, ablation, with_field, with_fields
from vjepa_ablations.size import one_size_up
from vjepa_exp.spec.data import MixtureEntry
from vjepa_exp.spec.experiment import Recipe

MIXES = {
    "k710": ("k710",),
    "k710_ssv2": ("k710", "ssv2"),
    "k710_ht": ("k710", "howto100m"),
    "vm2m": ("k710", "ssv2", "howto100m"),
}
"""By the names of the paper's rows; `vm2m` is VideoMix2M."""


@ablation("pretrain.data.mixture", "model")
def table2(base: Recipe) -> Iterator[Level]:
    """Four mixes of videos for the base's encoder, two of them for the next larger one (Table 2)."""
    for name, mix in MIXES.items():
        yield f"l_{name}", with_field(base, "pretrain.data.mixture", _entries(base, mix))
    for name in ("k710_ssv2", "vm2m"):
        larger = with_fields(
            base, {"model": one_size_up(base.model), "pretrain.data.mixture": _entries(base, MIXES[name])}
        )
        yield f"h_{name}", larger


@ablation("pretrain.data.mixture")
def mixes(base: Recipe) -> Iterator[Level]:
    """The four mixes of Table 2 for one encoder."""
    for name, mix in MIXES.items():
        yield name, with_field(base, "pretrain.data.mixture", _entries(base, mix))


def _entries(base: Recipe, datasets: tuple[str, ...]) -> tuple[MixtureEntry, ...]:
    """Entries of a mix; a set that the base names is shown as there, with its weight and without what it leaves out."""
    named = {entry.dataset: entry for entry in base.pretrain.data.mixture}
    return tuple(named.get(name) or MixtureEntry(dataset=name) for name in datasets)
