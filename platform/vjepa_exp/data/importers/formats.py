"""The formats by the names that the paper's recipes have for their data sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from vjepa_exp.data.importers.ava import ava
from vjepa_exp.data.importers.howto100m import howto100m
from vjepa_exp.data.importers.imagenet import imagenet
from vjepa_exp.data.importers.inaturalist import inaturalist_2021
from vjepa_exp.data.importers.kinetics import k710, kinetics
from vjepa_exp.data.importers.places import places205
from vjepa_exp.data.importers.something import something_v2
from vjepa_exp.data.listing import Listing

FORMATS: Mapping[str, Callable[[Path, Path], Listing]] = MappingProxyType(
    {
        "k400": kinetics,
        "k600": kinetics,
        "k700": kinetics,
        "k710": k710,
        "ssv2": something_v2,
        "howto100m": howto100m,
        "in1k": imagenet,
        "places205": places205,
        "inat21": inaturalist_2021,
        "ava": ava,
    }
)
"""Name -> function of (folder of the files, folder of the lists)."""
