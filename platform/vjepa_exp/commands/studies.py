"""Studies that were started in a store: what was asked for, so that `resume` and `report` need only a name."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from vjepa_exp.graph.store import write_atomically
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.problems import nearest

REPORTS = "reports"
REQUEST = "study.json"


@dataclass(frozen=True)
class Request:
    """One call of `vjepa-exp run`; paths are absolute once it is saved."""

    spec: str
    profile: str
    sets: tuple[str, ...] = ()
    datasets: str = "datasets.yaml"
    tracking: str | None = None
    cluster: str | None = None

    def command(self) -> list[str]:
        """The arguments that ask for the same in the store of the current folder."""
        options = [f"--set={text}" for text in self.sets]
        registered = [f"--datasets={self.datasets}"] if Path(self.datasets).is_file() else []
        tracking = [f"--tracking={self.tracking}"] if self.tracking else []
        cluster = [f"--cluster={self.cluster}"] if self.cluster else []
        return ["vjepa-exp", "run", self.spec, f"--profile={self.profile}", *options, *registered, *tracking, *cluster]


@dataclass(frozen=True)
class SavedStudy:
    """A request and its folder below the store's `reports/`."""

    name: str
    folder: Path
    request: Request


def save_request(folder: Path, request: Request) -> None:
    """Remember a request in the study's folder.

    Raises:
        UserError: the store cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / REQUEST, json.dumps(asdict(request), indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise UserError(f"the store cannot be written: {error.strerror}: {error.filename or folder}") from None


def saved_studies(store: Path) -> list[SavedStudy]:
    """The studies of a store, the one started last at the end."""
    files = sorted((store / REPORTS).glob(f"*/{REQUEST}"), key=lambda file: file.stat().st_mtime)
    return [SavedStudy(file.parent.name, file.parent, _read(file)) for file in files]


def find_study(store: Path, name: str | None) -> SavedStudy:
    """The study of that name or spec file; without one, the study started last.

    Raises:
        UserError: there is none.
    """
    studies = saved_studies(store)
    if not studies:
        raise UserError(f"no study was started in the store {store}: vjepa-exp run SPEC starts one")
    if name is None:
        return studies[-1]
    file = str(Path(name).resolve())
    for study in reversed(studies):
        if name == study.name or file == study.request.spec:
            return study
    names = [study.name for study in studies]
    raise UserError(f"no study '{name}' in the store {store}.{nearest(name, names)} Studies: {', '.join(names)}")


def _read(file: Path) -> Request:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        return Request(**{**data, "sets": tuple(data["sets"])})
    except (OSError, ValueError, TypeError, KeyError):
        raise UserError(f"{file} is damaged: delete it and start the study again with vjepa-exp run") from None
