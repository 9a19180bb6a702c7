"""`list`: the experiments at hand, and what a store holds."""

from __future__ import annotations

from pathlib import Path

from vjepa_exp.commands.console import console, grid
from vjepa_exp.commands.specs import experiment_files
from vjepa_exp.commands.studies import SavedStudy, saved_studies
from vjepa_exp.graph.store import Record, Store
from vjepa_exp.report.published import experiments_folder
from vjepa_exp.report.words import duration
from vjepa_exp.spec.errors import SpecError
from vjepa_exp.spec.load import read_experiment

OWN = Path("experiments")


def list_all(store: Path) -> None:
    """Print experiments, studies and stages."""
    out = console()
    folder = OWN if OWN.is_dir() else experiments_folder()
    rows = [_experiment_row(file) for file in experiment_files(folder)]
    out.print(grid(("experiment", "title", "profiles"), rows))
    out.print()
    studies, records = saved_studies(store), Store(store).records()
    if not records and not studies:
        out.print(f"The store {store} is empty.")
        return
    if studies:
        out.print(grid(("study", "report"), [(s.name, _report_of(s)) for s in studies]))
        out.print()
    out.print(grid(("stage", "time", "result"), [_record_row(record) for record in records], right=(1,)))


def _report_of(study: SavedStudy) -> str:
    """'' where there is none yet; a collection has those of its studies."""
    report = study.folder / "report.html"
    return str(report) if report.is_file() else ""


def _experiment_row(file: Path) -> tuple[str, str, str]:
    name = str(file) if file.parent == OWN else file.stem
    try:
        experiment = read_experiment(file)
    except SpecError:
        return name, "(not valid: vjepa-exp validate says why)", ""
    profiles = experiment.profile_names if experiment.profiles else []
    return name, str(experiment.document.get(("title",)) or ""), ", ".join(profiles)


def _record_row(record: Record) -> tuple[str, str, str]:
    result = [f"{n} {v:.3f}" for n in ("top1", "loss") if isinstance(v := record.metrics.get(n), int | float)]
    return record.stage, duration(record.seconds) if record.seconds is not None else "", ", ".join(result)
