"""What an MLflow server has been told of a study: its runs by our keys, and how far each was filled."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal
from uuid import uuid4

from vjepa_exp.graph.plan import Plan
from vjepa_exp.graph.stage import digest
from vjepa_exp.graph.store import Store, write_atomically

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
STUDY = "study"
"""Key of the study's own run."""


@dataclass
class Entry:
    """One MLflow run: how it is found, what it holds, and its last status."""

    run_id: str = ""
    """Empty until the server has answered; whether it has made the run all the same, `claim` finds out."""
    claim: str = field(default_factory=lambda: uuid4().hex)
    """A tag of the run, and of its logged model, noted before they are made."""
    step: int = 0
    """The last journal step that the run holds."""
    starts: int = 0
    status: Status = "RUNNING"
    told: list[str] = field(default_factory=list)
    """What is told once and has arrived."""
    model_id: str = ""
    """Its logged model."""
    compare: str = ""
    """Of the study: the page that compares its variants, below the address of the server."""


class Ledger:
    """The entries of one study on one server, kept in a file of the store.

    Args:
        folder: for the files of all studies.
        study: name of the study.
        uri: of the server.
    """

    def __init__(self, folder: Path, study: str, uri: str) -> None:
        self._path = folder / f"{study}-{hashlib.sha256(uri.encode()).hexdigest()[:8]}.json"
        self.entries: dict[str, Entry] = {}
        if self._path.is_file():
            runs = json.loads(self._path.read_text(encoding="utf-8"))
            self.entries = {key: Entry(**entry) for key, entry in runs.items()}

    def save(self) -> None:
        """Write the file, all of it or nothing."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path, json.dumps({key: asdict(entry) for key, entry in self.entries.items()}, indent=1))


def ledger_of(plan: Plan, store: Store, uri: str) -> Ledger:
    """The ledger of a study on a server."""
    return Ledger(store.root / "tracking", study_name(plan), uri)


def study_name(plan: Plan) -> str:
    """Experiment, profile and a digest of the work: another recipe is another study."""
    return f"{family_name(plan)}-{digest(sorted(stage.fingerprint for stage in plan.stages))[:8]}"


def family_name(plan: Plan) -> str:
    """Experiment and profile: what a study is called whatever its recipe."""
    return f"{plan.experiment.experiment.name}-{plan.experiment.profile_name}"
