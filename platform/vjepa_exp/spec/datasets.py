"""The registry of data sets: names in recipes, manifests on this machine.

`datasets.yaml` maps names to manifests; the demo sets are known everywhere and made when they are first needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field

from vjepa_exp.spec.base import Name, Spec
from vjepa_exp.spec.document import read_yaml
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.problems import nearest, validate

Family = Literal["demo", "tiny"]
DEMO_SETS: dict[str, tuple[Family, Literal["video", "image"]]] = {
    "demo_appearance": ("demo", "video"),
    "demo_motion": ("demo", "video"),
    "demo_stills": ("demo", "image"),
    "tiny_appearance": ("tiny", "video"),
    "tiny_motion": ("tiny", "video"),
    "tiny_stills": ("tiny", "image"),
}
"""Data set -> (family of demo data that holds it, kind); `tiny` is a rehearsal of `demo` in seconds."""

MANIFEST_FORMAT = 2
"""Version of manifest files; older ones are made anew."""

PAPER_SETS: dict[str, str] = {
    "k400": "Kinetics-400",
    "k600": "Kinetics-600",
    "k700": "Kinetics-700",
    "k710": "Kinetics-400, -600 and -700 joined",
    "ssv2": "Something-Something v2",
    "howto100m": "HowTo100M",
    "in1k": "ImageNet-1K",
    "places205": "Places205",
    "inat21": "iNaturalist 2021",
    "ava": "AVA v2.2",
}


class DatasetEntry(Spec):
    """A registered data set."""

    manifest: str
    kind: Literal["video", "image"] = "video"


class _Registry(Spec):
    datasets: dict[Name, DatasetEntry] = Field({})


class Registry:
    """Data sets by name: those of `datasets.yaml` and the demo sets."""

    def __init__(self, path: Path) -> None:
        """Read `path` if it exists.

        Raises:
            SpecError: the file is not valid.
        """
        self.path = path
        self.entries = validate(_Registry, read_yaml(path)).datasets if path.is_file() else {}

    def has(self, name: str) -> bool:
        """Whether the data set can be used here."""
        return name in self.entries or name in DEMO_SETS

    def kind(self, name: str) -> Literal["video", "image"]:
        """Whether a data set holds videos or images."""
        return self.entries[name].kind if name in self.entries else DEMO_SETS[name][1]

    def demo_family(self, name: str) -> Family | None:
        """The demo family that a data set belongs to, None for a registered one."""
        return None if name in self.entries else DEMO_SETS[name][0] if name in DEMO_SETS else None

    def manifest(self, name: str) -> Path:
        """Manifest of a registered data set; relative paths count from the registry file."""
        return (self.path.parent / self.entries[name].manifest).resolve()

    def missing(self, name: str) -> str:
        """One line on a data set that is not here: what it is and how to register it."""
        if name in PAPER_SETS:
            what, hint, command = f" ({PAPER_SETS[name]})", "", f"import {name} FOLDER --lists FOLDER_OF_ITS_LISTS"
        else:
            what, hint = "", nearest(name, [*self.entries, *DEMO_SETS, *PAPER_SETS])
            command = f"index FOLDER_OR_CSV --out {name}"
        return f"data set '{name}'{what} is not registered in {self.path}.{hint} Register it: vjepa-exp data {command}"

    def register(self, name: str, entry: DatasetEntry) -> None:
        """Add or replace an entry and write the file.

        Raises:
            UserError: the name belongs to a demo set, or the file cannot be written.
        """
        if name in DEMO_SETS:
            raise UserError(f"'{name}' is the name of a demo set; choose another")
        self.entries = {**self.entries, name: entry}
        body = {"datasets": {key: value.to_json() for key, value in sorted(self.entries.items())}}
        aside = self.path.with_name(self.path.name + ".part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            aside.write_text(yaml.safe_dump(body, sort_keys=False, allow_unicode=True), encoding="utf-8")
            aside.replace(self.path)
        except OSError as error:
            raise UserError(f"{self.path} cannot be written: {error.strerror}") from None
