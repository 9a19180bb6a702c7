"""What an MLflow server has been told of a study: its runs by our keys, and how far each was filled."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from vjepa_exp.graph.store import write_atomically

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]


@dataclass
class Entry:
    """One MLflow run: its id, the last journal step and the number of starts that it holds, and its last status."""

    run_id: str
    step: int = 0
    starts: int = 0
    status: Status = "RUNNING"


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
