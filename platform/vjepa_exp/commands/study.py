"""`run`, `resume` and `report`: from a request to a plan, its stages and its table."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from psutil import Process
from rich.console import Console

from vjepa_exp.commands.cluster import find_cluster
from vjepa_exp.commands.collection import Collected, collection_of
from vjepa_exp.commands.console import console, prose
from vjepa_exp.commands.plans import device_line, time_estimate
from vjepa_exp.commands.scores import print_scores
from vjepa_exp.commands.specs import find_experiment, find_experiments
from vjepa_exp.commands.studies import REPORTS, Request, find_study, save_request
from vjepa_exp.graph.coincide import coinciding_note
from vjepa_exp.graph.joint import JointPlan, together
from vjepa_exp.graph.machine import Machine, cluster_machine, this_machine
from vjepa_exp.graph.plan import Plan, build_plan
from vjepa_exp.graph.profile import choose_profile
from vjepa_exp.graph.result import StudyResult
from vjepa_exp.graph.store import Store
from vjepa_exp.report.published import as_published
from vjepa_exp.report.table import build_table
from vjepa_exp.spec.cluster import ClusterSpec, read_cluster
from vjepa_exp.spec.datasets import Registry
from vjepa_exp.spec.errors import UserError, of_machine
from vjepa_exp.spec.load import PAPER, ExperimentFile, ResolvedExperiment, read_experiment, resolve
from vjepa_exp.spec.texts import without_password
from vjepa_exp.track.standing import standing

if TYPE_CHECKING:
    from vjepa_exp.track.tracker import Tracker


@dataclass(frozen=True)
class Study:
    """A request that was read, resolved and planned."""

    request: Request
    file: ExperimentFile
    plan: Plan
    why_profile: str
    registry: Registry
    store: Store
    cluster: ClusterSpec | None = None

    @property
    def machine(self) -> Machine:
        """What the study may use: this machine, or a cluster with all its nodes."""
        return cluster_machine(self.cluster) if self.cluster else this_machine()

    @property
    def resolved(self) -> ResolvedExperiment:
        """The experiment under the chosen profile."""
        return self.plan.experiment

    @property
    def folder(self) -> Path:
        """Where the report goes."""
        name = self.resolved.experiment.name
        suffix = f"-{self.resolved.profile_name}" if self.file.profiles else ""
        return self.store.root / REPORTS / f"{name}{suffix}"


def prepare(request: Request, store: Path) -> Study:
    """Read, resolve and plan; `auto` becomes the profile that fits this machine, or the cluster.

    Raises:
        SpecError: with every problem of the files and options.
        UserError: there is no such file or profile, or a manifest cannot be read.
    """
    cluster_file = find_cluster(request.cluster) if request.cluster else None
    cluster = read_cluster(cluster_file)[0] if cluster_file else None
    path = find_experiment(request.spec)
    file = read_experiment(path)
    registry = Registry(Path(request.datasets))
    profile, why = request.profile, "named by --profile"
    if not file.profiles and profile == "auto":
        profile, why = PAPER, "the only one"
    elif profile == "auto":
        choice = choose_profile(file, registry, cluster_machine(cluster) if cluster else this_machine())
        profile, why = choice.name, choice.reason
    if request.tracking:
        try:
            without_password(request.tracking)
        except ValueError as error:
            raise UserError(f"--tracking: {error}") from None
    sets = [*request.sets, *([f"execution.tracking_uri={request.tracking}"] if request.tracking else [])]
    plan = build_plan(resolve(file, profile, sets), registry)
    absolute = replace(
        request,
        spec=str(path.resolve()),
        profile=profile,
        datasets=str(Path(request.datasets).resolve()),
        cluster=str(cluster_file.resolve()) if cluster_file else None,
    )
    return Study(absolute, file, plan, why, registry, Store(store), cluster)


def members(request: Request, store: Path) -> list[Study]:
    """The studies of a request: that of an experiment, or those of a collection.

    Raises:
        SpecError: as `prepare`.
        UserError: as `prepare`.
    """
    return [prepare(replace(request, spec=str(file)), store) for file in find_experiments(request.spec)]


def run(request: Request, store: Path, verbose: bool = False) -> bool:
    """Do what is missing of an experiment or of a collection, write the reports, print the tables.

    Returns:
        Whether every stage is done.

    Raises:
        UserError: the input is wrong, data sets are missing, or the store cannot be used.
    """
    studies, out = members(request, store), console()
    groups = [[one for one in studies if one.plan in joint.plans] for joint in together([one.plan for one in studies])]
    for group in groups:
        introduce(group, out)
        _require_datasets(group)
    for study in studies:
        tracker = _tracker(study)
        if not _told(tracker):
            tracker.require()
    collection = collection_of(request, [study.request for study in studies], store)
    try:
        with studies[0].store.lock():
            for study in studies:
                save_request(study.folder, study.request)
            if collection:  # last: what `resume` finds without a name
                collection.save()
            results = [result for group in groups for result in _run(group, out, verbose)]
    except KeyboardInterrupt:
        option = studies[0].store.option
        out.print(f"stopped; what is done is kept. Continue: vjepa-exp resume{option}", soft_wrap=True)
        return False
    if collection:
        _overview(collection, studies, results, out)
    return all(result.complete for result in results)


def _overview(collection: Collected, studies: Sequence[Study], results: Sequence[StudyResult], out: Console) -> None:
    by_plan = {id(result.plan): result for result in results}
    page = collection.write([(by_plan[id(study.plan)], study.folder) for study in studies])
    out.print(f"all studies: {page}", soft_wrap=True)


def _run(studies: Sequence[Study], out: Console, verbose: bool) -> list[StudyResult]:
    """Run studies of one execution, and write their reports."""
    first, joint = studies[0], JointPlan(tuple(study.plan for study in studies))
    _announce(joint, first, out)
    from vjepa_exp.runtime.runner import run_together  # `plan` answers at once without it
    from vjepa_exp.track.mirror import attach

    told = [_told(_tracker(study)) for study in studies]
    since = Process().create_time()
    results = run_together(joint, first.store, first.registry, out, cluster=first.cluster, verbose=verbose, since=since)
    for study, result, known in zip(studies, results, told, strict=True):
        files = _finish(study, result, out)
        if not known:
            attach(_tracker(study), files, out.print)
    return results


def _tracker(study: Study) -> Tracker:
    from vjepa_exp.track.tracker import Tracker  # `plan` answers at once without it

    return Tracker(study.plan, study.store, study.resolved.experiment.execution.tracking_uri)


def _told(tracker: Tracker) -> bool:
    """Whether MLflow knows all of a study already."""
    return tracker.up_to_date() and tracker.has_report()


def resume(name: str | None, store: Path, verbose: bool = False, cluster: str | None = None) -> bool:
    """Run a study or a collection of the store again: what is done stays, what was interrupted continues.

    Args:
        name: of the study, or its spec file; None: the one that was started last.
        store: where it is.
        verbose: let Ray's own messages through.
        cluster: file of the cluster to go on with; None: that of the study, if it has one.

    Raises:
        UserError: as `run`, or there is no such study.
    """
    request = find_study(store, name).request
    return run(replace(request, cluster=cluster or request.cluster), store, verbose)


def report(name: str | None, store: Path) -> None:
    """Write the report of a study, or of all of a collection, again, from what is in the store at this moment.

    A run that works is not disturbed.

    Raises:
        UserError: there is no such study.
    """
    request, out = find_study(store, name).request, console()
    studies = members(request, store)
    results = [standing(study.plan, study.store) for study in studies]
    for study, result in zip(studies, results, strict=True):
        _finish(study, result, out)
    if collection := collection_of(request, [study.request for study in studies], store):
        _overview(collection, studies, results, out)


def introduce(studies: Sequence[Study], out: Console) -> None:
    """Say which experiments these are, under which profile and on which device; what several have in common once."""
    said = set[str]()
    for study in studies:
        experiment = study.resolved.experiment
        out.print(f"{experiment.title or experiment.name} ({study.request.spec})", style="bold", soft_wrap=True)
        lines = _profile_lines(study)
        for line in (line for line in lines if line not in said):
            prose(out, line)
        said |= set(lines)
    prose(out, device_line(studies[0].plan, studies[0].machine))


def _profile_lines(study: Study) -> list[str]:
    if not study.file.profiles:
        return ["profile: none to choose from, the file runs as it stands"]
    experiment, profile = study.resolved.experiment, study.resolved.profile
    lines = [f"profile {study.resolved.profile_name}: {study.why_profile}"]
    if profile is None and experiment.paper and as_published(study.resolved):
        lines.append("  the recipe as published")
    elif profile and profile.differs:
        lines.append(f"  differs from the paper: {profile.differs}")
    if study.resolved.substituted:
        stand_ins = ", ".join(f"{ours} for {theirs}" for theirs, ours in study.resolved.substituted.items())
        lines.append(f"  data sets standing in: {stand_ins}")
    if note := coinciding_note(study.plan):
        lines.append(f"  {note}")
    others = [name for name in study.file.profile_names if name != study.resolved.profile_name]
    return [*lines, f"  another profile: {' or '.join(f'--profile {name}' for name in others)}"]


def _require_datasets(studies: Sequence[Study]) -> None:
    missing = [study.registry.missing(name) for study in studies for name in study.plan.missing_datasets]
    if missing:
        raise UserError("\n".join(dict.fromkeys(missing)))


def _announce(joint: JointPlan, study: Study, out: Console) -> None:
    to_do = [stage for stage in joint.doable if study.store.record(stage) is None]
    done = len(joint.doable) - len(to_do)
    if not to_do:
        out.print(f"nothing to do: {done} stages are in the store")
        return
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(stage.kind for stage in to_do).items())
    studies = f" for {len(joint.plans)} studies" if len(joint.plans) > 1 else ""
    in_store = f", {done} in the store" if done else ""
    time = time_estimate(to_do, joint.execution, study.registry, study.machine)
    prose(out, f"plan: {len(to_do)} stages to do{studies} ({kinds}){in_store}; {time}")


def _finish(study: Study, result: StudyResult, out: Console) -> list[Path]:
    """Write the report and print its table; the files of the report."""
    from vjepa_exp.report.write import write_report  # matplotlib and torch take seconds to import

    try:
        files = write_report(
            result, study.store, study.folder, shlex.join(study.request.command()) + study.store.option
        )
    except OSError as error:
        raise of_machine(error, f"the report in {study.folder}") or error from None
    out.print()
    if study.resolved.experiment.recipe.evaluate or study.resolved.experiment.derived:
        print_scores(build_table(result), out)
    out.print()
    for stage in result.plan.stages:
        if stage.fingerprint in result.failed:
            out.print(f"failed: {stage.id}: {result.failed[stage.fingerprint]}", soft_wrap=True)
    if summary := result.summary():
        out.print(summary)
    pictures = sum(file.suffix == ".png" for file in files)
    out.print(f"report: {files[1]} (also {files[0].name}, {files[2].name}, {pictures} pictures)", soft_wrap=True)
    server = study.resolved.experiment.execution.tracking_uri
    out.print(f"runs: {server or f'vjepa-exp ui{study.store.option}'}", soft_wrap=True)
    return files
