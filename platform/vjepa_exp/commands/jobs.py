"""`cluster submit`, `status`, `logs` and `stop`: runs that a cluster goes on with when the terminal is closed."""

from __future__ import annotations

import re
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from vjepa_exp.cluster.wheel import build_wheel
from vjepa_exp.commands.cluster import clusters_folder
from vjepa_exp.commands.console import console, grid, prose
from vjepa_exp.commands.specs import NO_REGISTRY, find_experiment, find_experiments
from vjepa_exp.commands.studies import REPORTS, find_study
from vjepa_exp.commands.study import members
from vjepa_exp.graph.joint import JointPlan
from vjepa_exp.graph.plan import build_plan
from vjepa_exp.graph.profile import requirements
from vjepa_exp.graph.provenance import code_version
from vjepa_exp.graph.stage import digest
from vjepa_exp.report.published import experiments_folder, require_cells
from vjepa_exp.spec.bundle import bundle
from vjepa_exp.spec.datasets import Registry
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.load import ExperimentFile, read_experiment, resolve
from vjepa_exp.track.standing import standing

if TYPE_CHECKING:
    from vjepa_exp.runtime.jobs import Job, Jobs

SPECS = "specs"
"""Folder of a store on a cluster for what was submitted to it, so that `resume` and `report` find it there."""
STOP_PATIENCE_S, POLL_S = 60.0, 0.5


@dataclass(frozen=True)
class Submission:
    """What is asked for; all places are the cluster's."""

    spec: str
    profile: str
    sets: tuple[str, ...]
    store: PurePosixPath
    registry: PurePosixPath
    tracking: str | None
    name: str | None

    @classmethod
    def of(
        cls,
        spec: str,
        profile: str,
        sets: Sequence[str],
        store: str,
        datasets: str | None,
        tracking: str | None,
        name: str | None,
    ) -> Self:
        """From a command line; the registry lies beside the store where none is named, as in rendered clusters."""
        kept = PurePosixPath(store)
        registry = PurePosixPath(datasets) if datasets else kept.parent / "datasets.yaml"
        return cls(spec, profile, tuple(sets), kept, registry, tracking, name)


def submit(asked: Submission, address: str) -> None:
    """Have a cluster run an experiment or a collection; what runs there already, under any execution, is left alone.

    Raises:
        SpecError: the experiment is not valid.
        UserError: an option is not, or the cluster does not take the job.
    """
    files, name, work = _checked(asked)
    from vjepa_exp.runtime.jobs import MARK, Jobs  # with Ray

    jobs = Jobs(address)
    base = f"{name}-{work}"
    before = [job for job in jobs.all() if job.id == base or job.id.startswith(f"{base}-")]
    if running := [job for job in before if not job.over]:
        console().print(f"already {running[-1].state}: {running[-1].id}", soft_wrap=True)
        return _say_how_to_watch(running[-1].id, address)
    job_id = f"{base}-{len(before) + 1}" if before else base
    folder = asked.store / SPECS / base
    with TemporaryDirectory(prefix="vjepa-exp-") as scratch:
        texts = Path(scratch) / "texts"
        texts.mkdir()
        for file, text in bundle(name, files).items():
            (texts / file).write_text(text, encoding="utf-8")
        wheel = code_wheel(Path(scratch))
        main = folder / f"{name}.yaml"
        about = {MARK: wheel.name.split("-")[1], "store": str(asked.store), "spec": str(main)}
        jobs.submit(job_id, _command(asked, files, folder, main), wheel, texts, about)
    if before:
        prose(console(), f"{before[-1].id} {before[-1].state}: what is in the store is not done again")
    console().print(f"submitted: {job_id} (results: {asked.store}, code: {wheel.name})", soft_wrap=True)
    return _say_how_to_watch(job_id, address)


def _checked(asked: Submission) -> tuple[list[ExperimentFile], str, str]:
    """The files, what the job is called, and a digest of the work: recipes and store, whatever the execution."""
    for place in (asked.store, asked.registry):
        if not place.is_absolute():
            raise UserError(f"{place} is not an absolute path: it is a place on the cluster, not on this machine")
    files = [read_experiment(path) for path in find_experiments(asked.spec)]
    recipes = []
    for file in files:
        resolved = resolve(file, asked.profile, asked.sets)
        if urlsplit(asked.tracking or resolved.experiment.execution.tracking_uri or "").password:
            raise UserError(
                "the job's log would show the password of the tracking server: leave it out of the address and give it "
                "to the cluster's head as MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )
        require_cells(build_plan(resolved, Registry(NO_REGISTRY)))
        body = resolved.experiment.to_json()
        recipes.append({key: value for key, value in body.items() if key not in ("execution", "profiles", "title")})
    name = asked.name or f"{find_experiment(asked.spec).stem}-{asked.profile}"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.\-]*", name):
        raise UserError(f"a job cannot be called '{name}': give letters, digits, '-', '_' and '.' with --name")
    return files, name, digest({"recipes": recipes, "profile": asked.profile, "store": str(asked.store)})[:8]


def _command(asked: Submission, files: list[ExperimentFile], folder: PurePosixPath, main: PurePosixPath) -> str:
    """What the cluster's shell is to do in a folder that holds the texts: keep them in the store, and run."""
    options = [f"--profile={asked.profile}", f"--store={asked.store}", f"--datasets={asked.registry}"]
    options += [f"--tracking={asked.tracking}"] if asked.tracking else []
    options += [f"--set={text}" for text in asked.sets]
    options.append("--set=execution.address=auto")
    if any(_wants_gpus(file, asked) for file in files):  # and never CPUs for want of them
        options.append("--set=execution.device=cuda")
    kept = shlex.quote(str(folder))
    run = shlex.join(["vjepa-exp", "run", str(main), *options])
    return f"mkdir -p {kept} && cp ./*.yaml {kept}/ && exec {run}"


def _wants_gpus(file: ExperimentFile, asked: Submission) -> bool:
    chosen = resolve(file, asked.profile, asked.sets).experiment.execution.device
    return chosen is None and requirements(file, asked.profile).gpus > 0


def code_wheel(folder: Path) -> Path:
    """A wheel of the code that runs at this moment, installed or in a checkout, changed or not."""
    packages = dict[str, Path]()
    for name in ("vjepa_exp", "vjepa_models", "vjepa_ablations"):
        found = find_spec(name)
        assert found is not None
        assert found.submodule_search_locations is not None
        packages[name] = Path(found.submodule_search_locations[0])
    packages["vjepa_exp/_experiments"] = experiments_folder()
    packages["vjepa_exp/_clusters"] = clusters_folder()
    code = code_version()
    commit = f"+g{code['commit'][:8]}{'.dirty' if code['dirty'] else ''}" if code["commit"] else ""
    return build_wheel(folder, packages, version("vjepa-exp") + commit)


def status(job_id: str | None, address: str) -> None:
    """Print a table of the cluster's jobs of ours, or of one of them.

    Raises:
        UserError: the cluster cannot be asked, or has no such job.
    """
    from vjepa_exp.runtime.jobs import Jobs

    jobs = Jobs(address)
    found = [jobs.find(job_id)] if job_id else jobs.all()
    if not found:
        console().print(f"no jobs of vjepa-exp on the cluster at {address}: vjepa-exp cluster submit SPEC")
        return
    rows = [(job.id, _study(job), job.state, _when(job.began), _now(job, jobs)) for job in found]
    console().print(grid(("job", "experiment", "state", "since", ""), rows))


def _study(job: Job) -> str:
    return PurePosixPath(job.spec).stem


def _when(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M}"


def _now(job: Job, jobs: Jobs) -> str:
    """How far it is: as its store says, where that can be seen from here, or else the last line of its log."""
    if job.state == "failed":
        return job.why
    lines = [line for line in jobs.log(job.id).splitlines() if line.strip()] if job.state == "running" else []
    return _progress(Path(job.store), job.spec) or (lines[-1].strip() if lines else "")


def _progress(store: Path, spec: str) -> str:
    if not (store / REPORTS).is_dir():
        return ""
    try:
        studies = members(find_study(store, spec).request, store)
        results = [standing(study.plan, study.store) for study in studies]
    except UserError:
        return ""
    done = {key for result in results for key in result.records}
    running = {key for result in results for key in result.running}
    failed = {key for result in results for key in result.failed}
    total = len(JointPlan(tuple(study.plan for study in studies)).doable)
    parts = [f"{len(done)} of {total} stages done"]
    parts += [f"{len(keys)} {state}" for keys, state in ((running, "running"), (failed, "failed")) if keys]
    return ", ".join(parts)


def logs(job_id: str, address: str, *, follow: bool) -> bool:
    """Print what a job has written; with `follow` until it ends. Ctrl-C ends the watching and not the job.

    Returns:
        False where it was followed to an end that was not a good one.

    Raises:
        UserError: the cluster cannot be asked, or has no such job.
    """
    from vjepa_exp.runtime.jobs import Jobs

    jobs = Jobs(address)
    job = jobs.find(job_id)
    if not follow:
        sys.stdout.write(jobs.log(job.id))
        return True
    try:
        jobs.follow(job.id, _write)
    except KeyboardInterrupt:
        console(stderr=True).print(f"\nthe job goes on; it ends with: vjepa-exp cluster stop {job.id}", soft_wrap=True)
        return True
    return jobs.find(job.id).state in ("done", "running")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def stop(job_id: str, address: str) -> bool:
    """End a job and wait until it has ended; what it has done stays in its store.

    Returns:
        Whether it has ended.

    Raises:
        UserError: the cluster cannot be asked, or has no such job.
    """
    from vjepa_exp.runtime.jobs import Jobs

    jobs = Jobs(address)
    job = jobs.find(job_id)
    if job.over:
        console().print(f"{job.id} has ended before: {job.state}", soft_wrap=True)
        return True
    jobs.stop(job.id)
    patience = time.monotonic() + STOP_PATIENCE_S
    while not (job := jobs.find(job.id)).over and time.monotonic() < patience:
        time.sleep(POLL_S)
    if not job.over:
        console().print(f"{job.id} was told to stop {STOP_PATIENCE_S:.0f} s ago and has not yet", soft_wrap=True)
        return False
    prose(console(), f"{job.id}: {job.state}; what is done is kept, the same submit goes on from there")
    return True


def _say_how_to_watch(job_id: str, address: str) -> None:
    where = f" --address {address}"
    console().print(f"watch: vjepa-exp cluster logs {job_id} --follow{where}", soft_wrap=True)
    console().print(f"stop:  vjepa-exp cluster stop {job_id}{where}", soft_wrap=True)
