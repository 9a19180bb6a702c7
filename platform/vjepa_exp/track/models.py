"""Checkpoints as MLflow's logged models.

The artifact is a description of a few kilobytes. The weights, gigabytes at the scale of the paper, stay where they are:
in the store, where the description says. So MLflow can show, tag and register a checkpoint, and not load it; `vjepa-exp
weights export` writes one in the released layout.
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from vjepa_exp.graph.store import Record
from vjepa_exp.track.ledger import Entry
from vjepa_exp.track.runs import Runs

DESCRIPTION = "checkpoint.json"
TYPES = {"pretrain": "encoder", "probe": "probe"}
"""Kind of a stage -> MLflow's type of the model that it leaves."""
WEIGHTS = ".pt"


def weights_of(record: Record) -> dict[str, int]:
    """Files of weights that a finished stage lists, with their bytes."""
    return {name: size for name, size in record.files.items() if name.endswith(WEIGHTS)}


def log_model(runs: Runs, entry: Entry, record: Record, folder: Path, tags: dict[str, str]) -> None:
    """Make the logged model of a finished stage, put the description into it and link it to the stage's run.

    Args:
        runs: of the study.
        entry: of the stage's run; afterwards it holds the model's id.
        record: of the stage; it lists weights.
        folder: of the stage.
        tags: of the model.
    """
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    client = runs.connection.client
    if not entry.model_id:
        entry.model_id = _found(runs, entry) or _made(runs, entry, record, tags)
        runs.ledger.save()
    with TemporaryDirectory() as aside:
        file = Path(aside) / DESCRIPTION
        file.write_text(json.dumps(_description(record, folder), indent=2) + "\n", encoding="utf-8")
        client.log_model_artifact(entry.model_id, str(file))
    client.finalize_logged_model(entry.model_id, LoggedModelStatus.READY)
    linked = client.get_run(entry.run_id).outputs
    if not any(model.model_id == entry.model_id for model in (linked.model_outputs if linked else [])):
        client.log_outputs(entry.run_id, [LoggedModelOutput(entry.model_id, entry.step)])


def _found(runs: Runs, entry: Entry) -> str:
    runs.ledger.save()  # the claim of an entry that an earlier version wrote is new
    experiment = runs.connection.experiment
    found = runs.connection.client.search_logged_models([experiment], f"tags.claim = '{entry.claim}'")
    return str(found[0].model_id) if found else ""


def _made(runs: Runs, entry: Entry, record: Record, tags: dict[str, str]) -> str:
    model = runs.connection.client.create_logged_model(
        runs.connection.experiment,
        name=record.stage.replace(".", "_"),  # which MLflow does not take
        source_run_id=entry.run_id,
        tags={**tags, "claim": entry.claim},
        model_type=TYPES[record.kind],
    )
    return str(model.model_id)


def _description(record: Record, folder: Path) -> dict[str, Any]:
    described: dict[str, Any] = {
        "about": "The weights are not here: they lie in the folder of the stage, at the place named below.",
        "stage": record.stage,
        "fingerprint": record.fingerprint,
        "weights": [{"uri": (folder / name).as_uri(), "bytes": size} for name, size in weights_of(record).items()],
        "metrics": record.metrics,
        "inputs": record.inputs,
        "code": record.code,
        "recipe": record.recipe,
    }
    if record.kind == "pretrain" and record.recipe["pretrain"]["objective"]["kind"] == "features":
        described["export"] = f"vjepa-exp weights export {record.stage} --out FILE --store {folder.parent}"
    return described
