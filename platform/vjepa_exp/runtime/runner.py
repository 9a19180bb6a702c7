"""Run plans: what the store already holds is used, the rest is done level by level, and nothing is done twice."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from vjepa_exp.graph.joint import JointPlan
from vjepa_exp.graph.machine import Machine, cluster_machine, this_machine
from vjepa_exp.graph.packs import share_passes
from vjepa_exp.graph.plan import Plan
from vjepa_exp.graph.result import StudyResult
from vjepa_exp.graph.stage import Stage
from vjepa_exp.graph.store import Record, Store
from vjepa_exp.runtime.environment import prepare, uninterrupted
from vjepa_exp.runtime.job import CHECKPOINT, Failure, Outcome, StageJob, manifest_name
from vjepa_exp.runtime.slots import Slots, choose_slots, most_workers
from vjepa_exp.runtime.view import View, duration
from vjepa_exp.spec.cluster import ClusterSpec
from vjepa_exp.spec.datasets import Registry
from vjepa_exp.spec.errors import UserError, of_machine
from vjepa_exp.spec.stages import DataRecipe
from vjepa_exp.track.mirror import Mirror
from vjepa_exp.track.progress import Progress
from vjepa_exp.track.tracker import Tracker

SCRATCH, FEATURES = ".ray", "features"
TRAINED = (1, 2)
"""Levels whose stages are trials of Ray Tune."""
IN_THIS_PROCESS = Slots("cpu", concurrent=1, workers=1, decode_workers=0, threads=1)
"""Of the stages that make data."""


def run(plan: Plan, store: Store, registry: Registry, console: Console) -> StudyResult:
    """`run_together` for one plan, without a cluster's file."""
    [result] = run_together(JointPlan((plan,)), store, registry, console)
    return result


def run_together(
    joint: JointPlan,
    store: Store,
    registry: Registry,
    console: Console,
    *,
    cluster: ClusterSpec | None = None,
    verbose: bool = False,
    since: float | None = None,
) -> list[StudyResult]:
    """Do every stage of some plans that the store does not hold yet: all pretraining, then all that stands on it.

    A stage that fails does not stop the others; what stands on it is not reached. Interrupted at any moment, the same
    call continues: training goes on from its last checkpoint.

    Args:
        joint: plans with the same execution.
        store: where results are and go; this process holds it.
        registry: the data sets of this machine.
        console: for progress, results of stages and warnings.
        cluster: that the run is on, with all nodes that it can have; the run joins Ray on this machine if the execution
            names no address. None: without an address this machine, with one what Ray there has or can become.
        verbose: let Ray's own messages through.
        since: when (seconds since 1970) the user asked for it; now where None.

    Returns:
        The result of each plan.

    Raises:
        UserError: a data set is missing, the store cannot be written, or the machine does not fit.
    """
    if joint.missing_datasets:
        raise UserError("\n".join(registry.missing(name) for name in joint.missing_datasets))
    return _Run(joint, store, registry, console, cluster, verbose, since or time.time()).execute()


class _Run:
    """One run."""

    def __init__(
        self,
        joint: JointPlan,
        store: Store,
        registry: Registry,
        console: Console,
        cluster: ClusterSpec | None,
        verbose: bool,
        since: float,
    ) -> None:
        self.joint, self.store, self.registry, self.console, self.verbose = joint, store, registry, console, verbose
        self.stages, self.execution = joint.doable, joint.execution
        found = {stage.fingerprint: store.record(stage) for stage in self.stages}
        self.records: dict[str, Record] = {key: record for key, record in found.items() if record is not None}
        self.reused = frozenset(self.records)
        self.begun: dict[str, float] = {}
        self.failed: dict[str, str] = {}
        self.before = {"plan": max(0.0, time.time() - since)}
        self.trackers = [Tracker(plan, store, self.execution.tracking_uri) for plan in joint.plans]
        self.cluster, self.address = cluster, self.execution.address or ("auto" if cluster else None)
        self.slots: dict[int, Slots] = {}
        if cluster is not None:
            self._share(cluster_machine(cluster))
        elif self.address is None:
            self._share(this_machine())

    def _share(self, machine: Machine) -> None:
        """Settle how the stages of each level share what there is, as if none of them were done."""
        for level in TRAINED:
            self.slots[level] = choose_slots(
                self.execution,
                len(self._packs(self.stages, level)),
                machine,
                joined=self.address is not None,
                accelerator=self.cluster.gpu.accelerator if self.cluster else None,
            )

    def execute(self) -> list[StudyResult]:
        """The run itself."""
        self._check_data()
        mirror = Mirror(self.trackers, self.records, self.failed, self.begun, self.console.print)
        mirror.start()
        try:
            with View(self.console, len(self.records), len(self.stages)) as view:
                for stage in self._missing(0):
                    self._make_data(stage, view)
                if any(self._missing(level) for level in TRAINED):
                    self._train(view)
        finally:
            mirror.finish()
        return [self._result(plan) for plan in self.joint.plans]

    def _result(self, plan: Plan) -> StudyResult:
        own = {stage.fingerprint for stage in plan.stages}
        records = {key: record for key, record in self.records.items() if key in own}
        failed = {key: reason for key, reason in self.failed.items() if key in own}
        return StudyResult(plan, records, failed, self.reused & own)

    def _missing(self, level: int) -> list[Stage]:
        """Stages of a level that are not done."""
        return [stage for stage in self.stages if stage.level == level and stage.fingerprint not in self.records]

    def _make_data(self, stage: Stage, view: View) -> None:
        with uninterrupted():
            from vjepa_exp.runtime.demo_data import make_demo_data  # with torch: seconds

        job = self._job(stage, self.store.path(stage))
        begun = time.monotonic()
        self._began(view, job)

        def progress(done: int, total: int) -> None:
            Progress("file", done, total).write(job.folder)

        outcome = make_demo_data(stage, job.folder, this_machine().cores, progress)
        self._ended(view, job, outcome, time.monotonic() - begun)

    def _train(self, view: View) -> None:
        view.says("starting Ray")
        begun = time.monotonic()
        prepare(self.address, self.verbose)
        with uninterrupted():
            from vjepa_exp.runtime.session import ray_session  # Ray and torch: seconds
            from vjepa_exp.runtime.sweep import run_level

        cpus = max((slots.cpus for slots in self.slots.values()), default=0) + 1
        gpus = max((slots.gpus for slots in self.slots.values()), default=0)
        with ray_session(self.address, cpus, gpus, self.verbose), self._scratch() as scratch:
            if self.address is not None:
                self._join(self.address, view)
            self.before["ray"] = time.monotonic() - begun
            for level in TRAINED:
                ready = [stage for stage in self._missing(level) if self._inputs_done(stage)]
                if not ready:
                    continue
                packs = []
                for number, pack in enumerate(self._packs(ready, level)):
                    jobs = [self._job(stage, scratch / pack[0].id, len(pack) - 1) for stage in pack]
                    if self.before and number < self.slots[level].concurrent:
                        jobs = [replace(job, before=self.before, ready=time.time()) for job in jobs]
                    packs.append(tuple(jobs))
                self.before = {}
                run_level(packs, scratch / f"level-{level}", partial(self._began, view), partial(self._ended, view))

    def _join(self, address: str, view: View) -> None:
        """Share what the cluster has or can become, as Ray knows it; what its file says must not be more than that."""
        from vjepa_exp.runtime.session import can_become, offered
        from vjepa_exp.runtime.waiting import waiting

        if self.cluster is None:
            self._share(offered(address))
        elif can_become() is not None:
            for level, slots in self.slots.items():
                most = most_workers(self.execution, slots.asks, offered(address), joined=True)
                self.slots[level] = replace(slots, workers=min(slots.workers, most))
        view.on_cluster(waiting)

    def _packs(self, stages: Sequence[Stage], level: int) -> list[tuple[Stage, ...]]:
        """Stages of a level, those together that share a pass of their encoder."""
        return share_passes([one for one in stages if one.level == level], self.execution.probes_per_pass)

    def _check_data(self) -> None:
        """Refuse registered data sets that stages would fail of before anything begins; the demo sets never do."""
        stages = [stage for level in TRAINED for stage in self._missing(level)]
        registered = [
            (stage, {name: self._manifest(stage, name) for name in names})
            for stage in stages
            if (names := [name for name in _datasets(stage) if self.registry.demo_family(name) is None])
        ]
        if registered:
            with uninterrupted():
                from vjepa_exp.runtime.training_data import check_data  # Arrow: half a second

            check_data(registered, self._removals())

    def _inputs_done(self, stage: Stage) -> bool:
        return all(needed.fingerprint in self.records for needed in stage.inputs)

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        """A folder for Ray, for the length of a run: on this machine's own disk, or in the store of a cluster."""
        if self.address is None:
            with TemporaryDirectory(prefix="vjepa-exp-", ignore_cleanup_errors=True) as folder:
                yield Path(folder)
            return
        shared = (self.store.root / SCRATCH).resolve()
        shutil.rmtree(shared, ignore_errors=True)  # of a run that was killed
        try:
            yield shared
        finally:
            shutil.rmtree(shared, ignore_errors=True)

    def _job(self, stage: Stage, scratch: Path, beside: int = 0) -> StageJob:
        pretrained = stage.input("pretrain")
        return StageJob(
            stage=stage,
            label=self.joint.label(stage),
            folder=self.store.begin(stage).resolve(),
            scratch=scratch,
            manifests={name: self._manifest(stage, name) for name in _datasets(stage)},
            removals=self._removals(),
            checkpoint=(self.store.path(pretrained) / CHECKPOINT).resolve() if pretrained else None,
            execution=self.execution,
            features=(self.store.root / FEATURES).resolve() if self.execution.cache_features else None,
            slots=self.slots[stage.level] if stage.level else IN_THIS_PROCESS,
            beside=beside,
        )

    def _removals(self) -> dict[str, Path]:
        return {digest: removals.file for digest, removals in self.joint.removals.items()}

    def _manifest(self, stage: Stage, dataset: str) -> Path:
        family = self.registry.demo_family(dataset)
        if family is None:
            return self.registry.manifest(dataset)
        made = next(needed for needed in stage.inputs if needed.kind == "data" and needed.name == family)
        return (self.store.path(made) / manifest_name(dataset)).resolve()

    def _began(self, view: View, job: StageJob) -> None:
        self.begun[job.stage.fingerprint] = time.time()
        view.begun(job)

    def _ended(self, view: View, job: StageJob, result: Outcome | Failure, seconds: float) -> None:
        stage = job.stage
        if isinstance(result, Outcome):
            try:
                self.records[stage.fingerprint] = self._commit(job, result, seconds)
            except Exception as error:  # noqa: BLE001 (Tune would do again what is done, as often as it may)
                result = Failure(str(of_machine(error) or " ".join(str(error).split())))
        if isinstance(result, Failure):
            self.failed[stage.fingerprint] = str(result)
            view.ended(job, f"FAILED: {result}")
        else:
            view.ended(job, f"{_summary(result)}, {duration(seconds)}")

    def _commit(self, job: StageJob, outcome: Outcome, seconds: float) -> Record:
        for name in outcome.files:
            with (job.folder / name).open("rb") as file:
                os.fsync(file.fileno())
        extra = {
            "coverage": outcome.coverage,
            "unreadable": outcome.unreadable,
            "execution": {**self.execution.to_json(), **asdict(job.slots), "beside": job.beside}
            if job.stage.level
            else {},
            "started": (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="seconds"),
            "seconds": round(seconds, 1),
            "mlflow_run_id": next(filter(None, (tracker.run_id(job.stage) for tracker in self.trackers)), None),
        }
        record = self.store.commit(job.stage, outcome.metrics, outcome.files, extra)
        if job.stage.kind == "probe":
            shutil.rmtree(job.folder / CHECKPOINT, ignore_errors=True)  # its weights are a file of its own
        return record


def _datasets(stage: Stage) -> list[str]:
    return [] if isinstance(stage.recipe, DataRecipe) else list(stage.recipe.digests)


def _summary(outcome: Outcome) -> str:
    if "top1" in outcome.metrics:
        return f"top-1 {outcome.metrics['top1']:.1f} % on {outcome.coverage['covered']} of {outcome.coverage['n']}"
    if "loss" in outcome.metrics:
        return f"loss {outcome.metrics['loss']:.3f}"
    return ", ".join(f"{name}: {count:.0f} files" for name, count in outcome.metrics.items())
