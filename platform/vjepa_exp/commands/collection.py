"""A collection in a store: what was asked for, and the page that links to the reports of its studies."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vjepa_exp.commands.specs import find_experiment
from vjepa_exp.commands.studies import REPORTS, Request, save_request
from vjepa_exp.graph.result import StudyResult
from vjepa_exp.graph.store import Store
from vjepa_exp.spec.collection import is_collection
from vjepa_exp.spec.document import read_yaml
from vjepa_exp.spec.errors import of_machine


@dataclass(frozen=True)
class Collected:
    """A request for a collection and its folder below the store's `reports/`."""

    title: str
    folder: Path
    request: Request
    option: str
    """What a command line needs to find the store."""

    def save(self) -> None:
        """Remember the request, so that `resume` and `report` find all of it.

        Raises:
            UserError: the store cannot be written.
        """
        save_request(self.folder, self.request)

    def write(self, reports: Sequence[tuple[StudyResult, Path]]) -> Path:
        """Write the page; returns its file.

        Args:
            reports: result of each study and the folder of its report.

        Raises:
            UserError: the store cannot be written.
        """
        from vjepa_exp.report.overview import write_overview  # with jinja2: half a second

        try:
            return write_overview(reports, self.title, self.folder, shlex.join(self.request.command()) + self.option)
        except OSError as error:
            raise of_machine(error, f"the page in {self.folder}") or error from None


def collection_of(request: Request, studies: Sequence[Request], store: Path) -> Collected | None:
    """The collection that a request names, None where that is an experiment.

    Args:
        request: as it was given.
        studies: the requests of its studies, with absolute paths and their profiles.
        store: where it is done.
    """
    path = find_experiment(request.spec)
    document = read_yaml(path)
    if not is_collection(document):
        return None
    name, profiles = document.data["name"], {study.profile for study in studies}
    profile = profiles.pop() if len(profiles) == 1 else request.profile
    asked = replace(studies[0], spec=str(path.resolve()), profile=profile)
    folder = store / REPORTS / f"{name}-{profile}"
    return Collected(document.data.get("title") or name, folder, asked, Store(store).option)
