"""MLflow as a mirror of the store: study > variant > stage, brought up to date again and again.

What MLflow shows is worked out from the plan, the records and the journals; what it was told is noted in the store.
So a server may come late, go away or be another one, and a run that continues an earlier one continues its MLflow runs.
Training processes never talk to MLflow.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vjepa_exp.graph.plan import Cell, Plan
from vjepa_exp.graph.provenance import code_version
from vjepa_exp.graph.stage import Stage, digest
from vjepa_exp.graph.store import RECIPE, RECORD, Record, Store
from vjepa_exp.graph.variants import Variant
from vjepa_exp.track.database import (
    EXPERIMENT,
    LOOPBACK,
    UI_PORT,
    artifact_folder,
    database_file,
    make_database,
    tracking_uri,
)
from vjepa_exp.track.journal import JOURNAL, Row, read_journal
from vjepa_exp.track.ledger import Entry, Ledger, Status
from vjepa_exp.track.starts import Start, read_starts

if TYPE_CHECKING:
    from mlflow import MlflowClient

KIND_OF_EXPERIMENT = {"mlflow.experimentKind": "custom_model_development"}  # the pages that the UI begins with
STUDY = "study"
SPEC = "experiment.yaml"
PARAMS_PER_REQUEST = 100  # MLflow's limits
METRICS_PER_REQUEST = 1000
ENVIRONMENT = {
    # A server that is away must not hold up a run; what it misses is sent later.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class Tracker:
    """Mirrors one study.

    Args:
        plan: of the study.
        store: that holds its stages.
        uri: of the MLflow server; None: SQLite in the store.

    Attributes:
        uri: of the server.
    """

    def __init__(self, plan: Plan, store: Store, uri: str | None) -> None:
        self._plan, self._store, self.uri = plan, store, tracking_uri(store, uri)
        self._is_own = uri is None
        name = f"{plan.experiment.experiment.name}-{plan.experiment.profile_name}"
        self._study = f"{name}-{digest(sorted(stage.fingerprint for stage in plan.stages))[:8]}"
        self._ledger = Ledger(store.root / "tracking", self._study, self.uri)
        self._owners = _owners(plan)
        self._connection: tuple[MlflowClient, str] | None = None

    def run_id(self, stage: Stage) -> str | None:
        """The MLflow run of a stage, None if MLflow does not know it yet."""
        entry = self._ledger.entries.get(stage.id)
        return entry.run_id if entry else None

    def page(self, stage: Stage | None = None) -> str | None:
        """Address of the run of a stage, or of the study, in MLflow's pages; None if there is no run or no page."""
        entry = self._ledger.entries.get(stage.id if stage else STUDY)
        server = f"http://{LOOPBACK}:{UI_PORT}" if self._is_own else self.uri
        if entry is None or not server.startswith(("http://", "https://")):
            return None
        return f"{server.rstrip('/')}/#/runs/{entry.run_id}"

    @property
    def page_note(self) -> str:
        """What has to run for the pages to open; '' where a server is always there."""
        return f"vjepa-exp ui{self._store.option}" if self._is_own else ""

    def up_to_date(self) -> bool:
        """Whether MLflow has been told that the whole study is finished."""
        study = self._ledger.entries.get(STUDY)
        return study is not None and study.status == "FINISHED"

    def sync(
        self,
        records: Mapping[str, Record],
        failed: Mapping[str, str],
        begun: Mapping[str, float],
        *,
        ended: bool = False,
    ) -> None:
        """Tell MLflow what it does not know yet.

        Args:
            records: of the stages that are done, by fingerprint.
            failed: reasons of those that failed.
            begun: when (seconds since 1970) stages of this run began.
            ended: the run is over: what is not done is marked as failed or killed.

        Raises:
            MlflowException: the server is away; what was not sent stays to be sent.
            OSError: so are the artifacts.
        """
        if self.up_to_date():
            return
        study = self._open_study()
        variants = {
            _key(variant): self._open(
                _key(variant), _title(variant), study, flat(variant.recipe.to_json()), _variant_tags(variant)
            )
            for variant in self._plan.variants
        }
        for stage in self._plan.stages:
            key = stage.fingerprint
            if key in begun or key in records or key in failed:
                parent = variants.get(self._owners.get(key, ""), study)
                self._sync_stage(stage, parent, records.get(key), failed.get(key), begun.get(key), ended)
        for variant in self._plan.variants:
            self._sync_variant(variant, records, ended)
        done = all(stage.fingerprint in records for stage in self._plan.stages)
        self._close(STUDY, "FINISHED" if done else "FAILED" if failed else "KILLED", done or ended)

    def attach(self, files: Iterable[Path]) -> None:
        """Add files, such as the report, to the study's run.

        Raises:
            MlflowException: the server is away.
            OSError: a file cannot be read, or the artifacts cannot be written.
        """
        entry = self._ledger.entries.get(STUDY)
        if entry is None:
            return
        for file in files:
            self._client.log_artifact(entry.run_id, str(file), "report")

    def _open_study(self) -> Entry:
        new = STUDY not in self._ledger.entries
        study = self._open(STUDY, self._study, None, self._study_params(), self._study_tags())
        if new:
            self._client.log_dict(study.run_id, self._plan.experiment.experiment.to_json(), SPEC)
        return study

    def _sync_stage(
        self,
        stage: Stage,
        parent: Entry,
        record: Record | None,
        failure: str | None,
        begun: float | None,
        ended: bool,
    ) -> None:
        known = self._ledger.entries.get(stage.id)
        if known and known.status == "FINISHED":
            return
        folder = self._store.path(stage).resolve()
        tags = {"stage": stage.id, "kind": stage.kind, "fingerprint": stage.fingerprint, "folder": str(folder)}
        start, end = _times(record, begun)
        entry = self._open(stage.id, self._plan.label(stage), parent, flat(stage.recipe.to_json()), tags, start)
        self._send(entry, read_journal(folder / JOURNAL, after=entry.step))
        self._send_starts(entry, read_starts(folder))
        if record is not None:
            names = [RECIPE, RECORD, *(name for name in record.files if name.endswith((".parquet", ".jsonl")))]
            for name in names:
                self._client.log_artifact(entry.run_id, str(folder / name))
            scores = {f"final.{name}": value for name, value in _scores(record).items()} | _counts(record)
            self._client.log_batch(entry.run_id, metrics=_metrics(scores, 0, time.time()))
            for name in record.files:
                if name.startswith("checkpoint/"):
                    self._client.set_tag(entry.run_id, "checkpoint", str(folder / name))
            self._close(stage.id, "FINISHED", True, end)
        elif failure is not None:
            self._client.set_tag(entry.run_id, "failure", failure[:5000])
            self._close(stage.id, "FAILED", True)
        else:
            self._close(stage.id, "KILLED", ended)

    def _sync_variant(self, variant: Variant, records: Mapping[str, Record], ended: bool) -> None:
        cells = [c for c in self._plan.cells if (c.variant, c.variant_seed) == (variant.name, variant.seed)]
        entry = self._ledger.entries[_key(variant)]
        if entry.status == "FINISHED":
            return
        pretraining = self._plan.pretraining[variant.name, variant.seed]
        stages = [pretraining] if pretraining in self._plan.stages else []
        stages += (cell.stage for cell in cells)
        done = all(stage.fingerprint in records for stage in stages)
        if done:
            scores = {
                f"{_column(cell)}.{name}": value
                for cell in cells
                for name, value in _scores(records[cell.stage.fingerprint]).items()
            }
            self._client.log_batch(entry.run_id, metrics=_metrics(scores, 0, time.time()))
        self._close(_key(variant), "FINISHED" if done else "KILLED", done or ended)

    @property
    def _client(self) -> MlflowClient:
        return self._connect()[0]

    def _connect(self) -> tuple[MlflowClient, str]:
        if self._connection is None:
            os.environ.update({name: value for name, value in ENVIRONMENT.items() if name not in os.environ})
            for noisy in ("mlflow", "alembic"):
                logging.getLogger(noisy).setLevel(logging.CRITICAL)  # failures are told by the mirror, in a line
            from mlflow import MlflowClient  # takes seconds

            artifacts = artifact_folder(self._store)
            if self._is_own:
                make_database(database_file(self._store), artifacts)
            client = MlflowClient(self.uri)
            found = client.get_experiment_by_name(EXPERIMENT)
            experiment = (
                found.experiment_id
                if found
                else client.create_experiment(
                    EXPERIMENT, artifacts.as_uri() if self._is_own else None, KIND_OF_EXPERIMENT
                )
            )
            self._connection = client, experiment
        return self._connection

    def _open(
        self,
        key: str,
        name: str,
        parent: Entry | None,
        params: dict[str, str],
        tags: dict[str, str],
        start: float | None = None,
    ) -> Entry:
        """The run of a key, made where there is none and running again where it had ended."""
        entry = self._ledger.entries.get(key)
        if entry is not None:
            if entry.status in ("FAILED", "KILLED"):
                self._client.update_run(entry.run_id, status="RUNNING")
                entry.status = "RUNNING"
            return entry
        from mlflow.entities import Param

        client, experiment = self._connect()
        tags = {**self._common_tags(), **tags, **({"mlflow.parentRunId": parent.run_id} if parent else {})}
        start_ms = None if start is None else int(1000 * start)
        run = client.create_run(experiment, start_time=start_ms, run_name=name, tags=tags)
        items = [Param(name, value) for name, value in params.items()]
        for i in range(0, len(items), PARAMS_PER_REQUEST):
            client.log_batch(run.info.run_id, params=items[i : i + PARAMS_PER_REQUEST])
        self._ledger.entries[key] = entry = Entry(run.info.run_id)
        self._ledger.save()
        return entry

    def _close(self, key: str, status: Status, when: bool, end: float | None = None) -> None:
        entry = self._ledger.entries[key]
        if when and entry.status != status:
            self._client.set_terminated(entry.run_id, status, None if end is None else int(1000 * end))
            entry.status = status
            self._ledger.save()

    def _send(self, entry: Entry, rows: list[Row]) -> None:
        per_request = max(1, METRICS_PER_REQUEST // max((len(row) for row in rows), default=1))
        for i in range(0, len(rows), per_request):
            part = rows[i : i + per_request]
            metrics = [one for row in part for one in _metrics(_values(row), int(row["step"]), row["time"])]
            self._client.log_batch(entry.run_id, metrics=metrics)
            entry.step = int(part[-1]["step"])
            self._ledger.save()

    def _send_starts(self, entry: Entry, starts: list[Start]) -> None:
        for start in starts[entry.starts :]:
            values = {f"start.{phase}_s": seconds for phase, seconds in start.seconds.items()}
            values |= {"start.total_s": start.total, "start.repeated_steps": start.repeated}
            self._client.log_batch(entry.run_id, metrics=_metrics(values, start.step, start.time))
            entry.starts += 1
            self._ledger.save()

    def _common_tags(self) -> dict[str, str]:
        code, paper = code_version(), self._plan.experiment.experiment.paper
        return {
            "study": self._study,
            "code_version": str(code["version"]),
            "git_commit": str(code["commit"]),
            "git_dirty": str(code["dirty"]),
            "mlflow.source.type": "LOCAL",
            "mlflow.source.name": self._plan.experiment.path.name,
            **({"mlflow.source.git.commit": code["commit"]} if code["commit"] else {}),
            **({f"paper_{'table' if paper.table else 'figure'}": str(paper.table or paper.figure)} if paper else {}),
        }

    def _study_params(self) -> dict[str, str]:
        resolved = self._plan.experiment
        return {"experiment": resolved.experiment.name, "profile": resolved.profile_name, "file": str(resolved.path)}

    def _study_tags(self) -> dict[str, str]:
        return {"kind": "study", "mlflow.note.content": self._plan.experiment.experiment.title}


def flat(value: Any, prefix: str = "") -> dict[str, str]:
    """Nested JSON data as dotted names and texts of at most 6000 characters (MLflow's limit)."""
    if isinstance(value, Mapping):
        items: Iterable[tuple[object, Any]] = value.items()
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        items = enumerate(value)
    else:
        return {prefix: str(value)[:6000]}
    below = (flat(inner, f"{prefix}.{key}" if prefix else str(key)) for key, inner in items)
    return {name: text for part in below for name, text in part.items()}


def _owners(plan: Plan) -> dict[str, str]:
    """Fingerprint of a stage -> the first variant that needs it; data stages belong to the study."""
    owners: dict[str, str] = {}
    for (name, seed), stage in plan.pretraining.items():
        owners.setdefault(stage.fingerprint, f"{name}/{seed}")
    for cell in plan.cells:
        owners.setdefault(cell.stage.fingerprint, f"{cell.variant}/{cell.variant_seed}")
    return owners


def _key(variant: Variant) -> str:
    return f"{variant.name}/{variant.seed}"


def _column(cell: Cell) -> str:
    """The cell's column, and what tells it from others of its variant in that column."""
    repeat = "" if cell.seed == cell.variant_seed else f".s{cell.seed}"
    return f"{cell.column}{'.random_init' if cell.baseline else ''}{repeat}"


def _title(variant: Variant) -> str:
    return f"{variant.label} (seed {variant.seed})"


def _variant_tags(variant: Variant) -> dict[str, str]:
    return {"kind": "variant", "seed": str(variant.seed), **{f"level.{k}": v for k, v in variant.levels.items()}}


def _times(record: Record | None, begun: float | None) -> tuple[float | None, float | None]:
    """When a stage began and ended, in seconds since 1970, as far as that is known."""
    if record is None or record.started is None or record.seconds is None:
        return begun, None
    start = datetime.fromisoformat(record.started).timestamp()
    return start, start + record.seconds


def _values(row: Row) -> dict[str, float]:
    return {name: value for name, value in row.items() if name not in ("step", "time")}


def _scores(record: Record) -> dict[str, float]:
    return {name: value for name, value in record.metrics.items() if name != "step"}


def _counts(record: Record) -> dict[str, float]:
    """Videos asked for, read and not read, the last by data set and reason."""
    counts: dict[str, float] = {f"videos.{name}": count for name, count in record.coverage.items()}
    if record.coverage:
        counts["unreadable"] = sum(sum(kinds.values()) for kinds in record.unreadable.values())
    for dataset, kinds in record.unreadable.items():
        counts |= {f"unreadable.{dataset}.{kind}": count for kind, count in kinds.items()}
    return counts


def _metrics(values: Mapping[str, float], step: int, seconds: float) -> list[Any]:
    from mlflow.entities import Metric

    return [Metric(name, value, int(seconds * 1000), step) for name, value in values.items()]
