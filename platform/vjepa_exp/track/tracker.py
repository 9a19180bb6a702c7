"""MLflow as a mirror of the store: study > variant > stage, brought up to date again and again.

What MLflow shows is worked out from the plan, the records and the journals; what it was told is noted in the store.
So a server may come late, go away or be another one, and a run that continues an earlier one continues its MLflow runs.
Training processes never talk to MLflow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path

from vjepa_exp.graph.plan import Cell, Plan
from vjepa_exp.graph.provenance import code_version
from vjepa_exp.graph.stage import Stage
from vjepa_exp.graph.store import RECIPE, RECORD, Record, Store
from vjepa_exp.graph.variants import Variant
from vjepa_exp.track.compare import agreed, compare_page, differences, flat, variant_key, web_page
from vjepa_exp.track.connection import Connection
from vjepa_exp.track.database import LOOPBACK, UI_PORT
from vjepa_exp.track.inputs import dataset_inputs, evaluated_on
from vjepa_exp.track.journal import JOURNAL, read_journal
from vjepa_exp.track.ledger import STUDY, Entry, ledger_of, study_name
from vjepa_exp.track.models import log_model, weights_of
from vjepa_exp.track.registry import find_best, register
from vjepa_exp.track.runs import Runs, metrics
from vjepa_exp.track.starts import read_starts

SPEC = "experiment.yaml"
BEST, REPORT = "best", "report"
"""What the study's entry is told last."""


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
        self._plan, self._store = plan, store
        self._connection, self._is_own = Connection(store, uri), uri is None
        self.uri = self._connection.uri
        self._pages = f"http://{LOOPBACK}:{UI_PORT}/" if self._is_own else web_page(self.uri)
        self._ledger = ledger_of(plan, store, self.uri)
        self._runs = Runs(self._connection, self._ledger, _common_tags(plan))
        self._users = _users(plan)
        self._vary = differences(plan.variants)
        self._failed: set[str] = set()  # told of; in another run, with another tracker, they may do better

    def run_id(self, stage: Stage) -> str | None:
        """The MLflow run of a stage, None if MLflow does not know it yet."""
        entry = self._ledger.entries.get(stage.id)
        return entry.run_id or None if entry else None

    def page(self, stage: Stage | None = None) -> str | None:
        """Address of the run of a stage, or of the study, in MLflow's pages; None if there is no run or no page."""
        entry = self._ledger.entries.get(stage.id if stage else STUDY)
        return f"{self._pages}#/runs/{entry.run_id}" if entry and entry.run_id and self._pages else None

    def compare_page(self) -> str | None:
        """Address of the page that compares the variants; None if there is one variant, or no page."""
        study = self._ledger.entries.get(STUDY)
        return f"{self._pages}{study.compare}" if study and study.compare and self._pages else None

    @property
    def page_note(self) -> str:
        """What has to run for the pages to open; '' where a server is always there."""
        return f"vjepa-exp ui{self._store.option}" if self._is_own else ""

    def up_to_date(self) -> bool:
        """Whether MLflow has been told that the whole study is finished, and which variant is the best."""
        study = self._ledger.entries.get(STUDY)
        return study is not None and study.status == "FINISHED" and BEST in study.told

    def has_report(self) -> bool:
        """Whether MLflow has the files that were attached last."""
        study = self._ledger.entries.get(STUDY)
        return study is not None and REPORT in study.told

    def require(self) -> None:
        """See whether the server lets us write; one that is away may come back later.

        Raises:
            UserError: it does not.
        """
        self._connection.require()

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
        variants = {variant_key(variant): self._open_variant(variant, study) for variant in self._plan.variants}
        if len(variants) > 1:
            self._runs.once(study, "compare", lambda: self._tell_compare_page(study, list(variants.values())))
        for stage in self._plan.stages:
            key = stage.fingerprint
            if key in begun or key in records or key in failed:
                users = self._users.get(key)
                parent = variants[users[0]] if users else study
                self._sync_stage(stage, parent, records.get(key), failed.get(key), begun.get(key), ended)
        for variant in self._plan.variants:
            self._sync_variant(variant, records, ended)
        if all(stage.fingerprint in records for stage in self._plan.stages):
            self._runs.close(STUDY, "FINISHED")
            self._runs.once(study, BEST, lambda: self._register_best(records))
        elif ended:
            self._runs.close(STUDY, "FAILED" if failed else "KILLED")

    def attach(self, files: Iterable[Path]) -> None:
        """Add files, such as the report, to the study's run.

        Raises:
            MlflowException: the server is away; `has_report` says so.
            OSError: a file cannot be read, or the artifacts cannot be written.
        """
        entry = self._ledger.entries.get(STUDY)
        if entry is None or not entry.run_id:
            return
        entry.told = [what for what in entry.told if what != REPORT]
        self._ledger.save()
        for file in files:
            self._connection.client.log_artifact(entry.run_id, str(file), "report")
        self._runs.once(entry, REPORT, lambda: None)

    def _open_study(self) -> Entry:
        resolved = self._plan.experiment
        params = {"experiment": resolved.experiment.name, "profile": resolved.profile_name, "file": str(resolved.path)}
        tags = {"kind": STUDY, "mlflow.note.content": resolved.experiment.title}
        study = self._runs.open(STUDY, study_name(self._plan), None, params, tags)
        spec = resolved.experiment.to_json()
        self._runs.once(study, "spec", lambda: self._connection.client.log_dict(study.run_id, spec, SPEC))
        return study

    def _open_variant(self, variant: Variant, study: Entry) -> Entry:
        key = variant_key(variant)
        params = flat(variant.recipe.to_json()) | self._vary[key]
        levels = {f"level.{factor}": level for factor, level in variant.levels.items()}
        tags = {"kind": "variant", "seed": str(variant.seed), **levels}
        return self._runs.open(key, f"{variant.label} (seed {variant.seed})", study, params, tags)

    def _tell_compare_page(self, study: Entry, variants: list[Entry]) -> None:
        """A tag and, in the description, a link that works wherever the server is shown."""
        client = self._connection.client
        study.compare = compare_page([entry.run_id for entry in variants], self._connection.experiment)
        client.set_tag(study.run_id, "compare", (web_page(self.uri) or "") + study.compare)
        note = f"[Compare the {len(variants)} variants]({study.compare})"
        title = self._plan.experiment.experiment.title
        client.set_tag(study.run_id, "mlflow.note.content", f"{title}\n\n{note}" if title else note)

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
        if known and known.status == "FINISHED" and known.told:
            return
        if stage.id in self._failed:
            return
        start, end = _times(record, begun)
        entry = self._open_stage(stage, parent, start)
        folder = self._store.path(stage).resolve()
        self._runs.send(entry, read_journal(folder / JOURNAL, after=entry.step))
        self._runs.send_starts(entry, read_starts(folder))
        if record is not None:
            self._finish_stage(stage, entry, record, end)
            self._runs.close(stage.id, "FINISHED", end)
        elif failure is not None:
            self._connection.client.set_tag(entry.run_id, "failure", failure[:5000])
            self._runs.close(stage.id, "FAILED")
            self._failed.add(stage.id)
        elif ended:
            self._runs.close(stage.id, "KILLED")

    def _open_stage(self, stage: Stage, parent: Entry, start: float | None) -> Entry:
        users = self._users.get(stage.fingerprint, [])
        vary = agreed([self._vary[user] for user in users]) if users else {}
        params = flat(stage.recipe.to_json()) | vary
        entry = self._runs.open(stage.id, self._plan.label(stage), parent, params, self._stage_tags(stage), start)
        self._runs.once(entry, "data sets", lambda: self._log_datasets(entry, stage))
        return entry

    def _stage_tags(self, stage: Stage) -> dict[str, str]:
        folder = str(self._store.path(stage).resolve())
        return {"stage": stage.id, "kind": stage.kind, "fingerprint": stage.fingerprint, "folder": folder}

    def _log_datasets(self, entry: Entry, stage: Stage) -> None:
        inputs = dataset_inputs(stage, self._store, self._plan.manifests)
        if inputs:
            self._connection.client.log_inputs(entry.run_id, inputs)

    def _finish_stage(self, stage: Stage, entry: Entry, record: Record, end: float | None) -> None:
        folder = self._store.path(stage).resolve()
        self._runs.once(entry, "files", lambda: self._log_files(entry, record, folder))
        if weights_of(record):
            tags = {**self._stage_tags(stage), "study": study_name(self._plan), "label": self._plan.label(stage)}
            self._runs.once(entry, "model", lambda: log_model(self._runs, entry, record, folder, tags))
        self._runs.once(entry, "scores", lambda: self._log_scores(stage, entry, record, end))

    def _log_files(self, entry: Entry, record: Record, folder: Path) -> None:
        client = self._connection.client
        for name in (RECIPE, RECORD, *(name for name in record.files if name.endswith((".parquet", ".jsonl")))):
            client.log_artifact(entry.run_id, str(folder / name))
        for name in record.files:
            if name.startswith("checkpoint/"):
                client.set_tag(entry.run_id, "checkpoint", str(folder / name))

    def _log_scores(self, stage: Stage, entry: Entry, record: Record, end: float | None) -> None:
        scores = {f"final.{name}": value for name, value in _scores(record).items()}
        of = {"model_id": entry.model_id, **evaluated_on(stage)} if entry.model_id else {}
        found = metrics(scores, 0, end, **of) + metrics(_counts(record), 0, end)
        self._connection.client.log_batch(entry.run_id, metrics=found)

    def _sync_variant(self, variant: Variant, records: Mapping[str, Record], ended: bool) -> None:
        cells = [c for c in self._plan.cells if (c.variant, c.variant_seed) == (variant.name, variant.seed)]
        key = variant_key(variant)
        entry = self._ledger.entries[key]
        if entry.status == "FINISHED":
            return
        pretraining = self._plan.pretraining[variant.name, variant.seed]
        stages = [pretraining] if pretraining in self._plan.stages else []
        stages += (cell.stage for cell in cells)
        if all(stage.fingerprint in records for stage in stages):
            scores = {
                f"{_column(cell)}.{name}": value
                for cell in cells
                for name, value in _scores(records[cell.stage.fingerprint]).items()
            }
            end = max((end for stage in stages if (end := _times(records[stage.fingerprint], None)[1])), default=None)
            self._connection.client.log_batch(entry.run_id, metrics=metrics(scores, 0, end))
            self._runs.close(key, "FINISHED")
        elif ended:
            self._runs.close(key, "KILLED")

    def _register_best(self, records: Mapping[str, Record]) -> None:
        best = find_best(self._plan, records)
        if best is not None and (entry := self._ledger.entries[best.encoder.id]).model_id:
            register(self._connection, self._plan, best, entry)


def _common_tags(plan: Plan) -> dict[str, str]:
    code, paper = code_version(), plan.experiment.experiment.paper
    return {
        "study": study_name(plan),
        "code_version": str(code["version"]),
        "git_commit": str(code["commit"]),
        "git_dirty": str(code["dirty"]),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": plan.experiment.path.name,
        **({"mlflow.source.git.commit": code["commit"]} if code["commit"] else {}),
        **({f"paper_{'table' if paper.table else 'figure'}": str(paper.table or paper.figure)} if paper else {}),
    }


def _users(plan: Plan) -> dict[str, list[str]]:
    """Fingerprint of a stage -> the variants that need it, its MLflow parent first; data stages belong to the study."""
    users: dict[str, dict[str, None]] = {}
    for (name, seed), stage in plan.pretraining.items():
        users.setdefault(stage.fingerprint, {})[f"{name}/{seed}"] = None
    for cell in plan.cells:
        users.setdefault(cell.stage.fingerprint, {})[f"{cell.variant}/{cell.variant_seed}"] = None
    return {fingerprint: list(keys) for fingerprint, keys in users.items()}


def _column(cell: Cell) -> str:
    """The cell's column, and what tells it from others of its variant in that column."""
    repeat = "" if cell.seed == cell.variant_seed else f".s{cell.seed}"
    return f"{cell.column}{'.random_init' if cell.baseline else ''}{repeat}"


def _times(record: Record | None, begun: float | None) -> tuple[float | None, float | None]:
    """When a stage began and ended, in seconds since 1970, as far as that is known."""
    if record is None or record.started is None or record.seconds is None:
        return begun, None
    start = datetime.fromisoformat(record.started).timestamp()
    return start, start + record.seconds


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
