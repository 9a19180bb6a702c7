"""Ray Tune over the stages of one level: a trial per stage, a few at a time; a failed one does not stop the rest."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial

from vjepa_exp.runtime.job import FAILURE, Failure, Outcome, StageJob
from vjepa_exp.runtime.trainer import train_stage
from vjepa_exp.spec.errors import UserError

TRIAL_CPUS = 0.01
"""A trial only waits for its trainer: a whole CPU for that could be the one that the trainer's workers wait for."""

OnBegin = Callable[[StageJob], None]
"""Takes a stage that begins."""
OnEnd = Callable[[StageJob, Outcome | Failure, float], None]
"""Takes a stage that has ended, with its result and the seconds that it took."""


def run_level(jobs: Sequence[StageJob], scratch: Path, on_begin: OnBegin, on_end: OnEnd) -> None:
    """Do stages that do not need each other.

    Args:
        jobs: the stages; all have the same slots.
        scratch: folder for Tune's own files, of no use later: what is to be kept is in the stages' folders.
        on_begin: called in this process whenever a stage begins.
        on_end: called in this process whenever a stage has ended.
    """
    by_id = {job.stage.id: job for job in jobs}
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(_trial, jobs=by_id), {"CPU": TRIAL_CPUS}),
        param_space={"stage": tune.grid_search(list(by_id))},
        tune_config=tune.TuneConfig(max_concurrent_trials=jobs[0].slots.concurrent, reuse_actors=True),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(scratch),
            verbose=0,
            callbacks=[_Watch(by_id, on_begin, on_end)],
            failure_config=tune.FailureConfig(max_failures=jobs[0].execution.max_failures),
        ),
    )
    tuner.fit()


def _trial(config: dict[str, Any], jobs: Mapping[str, StageJob]) -> dict[str, Any]:
    """An outcome, or what is wrong with the stage: all that Tune sees as an error is the loss of this process."""
    job = jobs[config["stage"]]
    try:
        return {"outcome": train_stage(job)}
    except UserError as error:
        return {"outcome": _failure(job, str(error))}
    except Exception:  # noqa: BLE001 (told by the driver, and all of it in the log)
        return {"outcome": _failure(job, _last_line(traceback.format_exc()))}


def _failure(job: StageJob, reason: str) -> Failure:
    """A failure, with the error that is being handled in a file of the stage's folder."""
    log = job.folder / FAILURE
    try:
        log.write_text(traceback.format_exc(), encoding="utf-8")
    except OSError:  # a full disk may be why the stage failed
        return Failure(reason)
    return Failure(reason, log)


class _Watch(tune.Callback):
    """Hands every trial that begins to `on_begin` and every one that ends to `on_end`."""

    def __init__(self, jobs: Mapping[str, StageJob], on_begin: OnBegin, on_end: OnEnd) -> None:
        self._jobs, self._on_begin, self._on_end = jobs, on_begin, on_end
        self._begun: dict[str, float] = {}

    def __reduce__(self) -> tuple[type[tune.Callback], tuple[()]]:
        """Tune saves callbacks for a restore that never comes; this one is bound to its process."""
        return tune.Callback, ()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A stage begins."""
        self._begun[trial.trial_id] = time.monotonic()
        self._on_begin(self._jobs[trial.config["stage"]])

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A stage is done."""
        self._end(trial, trial.last_result["outcome"])

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial's process was lost more often than is tried again."""
        self._end(trial, Failure(_last_line(Path(trial.error_file).read_text(encoding="utf-8"))))

    def _end(self, trial: Trial, result: Outcome | Failure) -> None:
        job = self._jobs[trial.config["stage"]]
        self._on_end(job, result, time.monotonic() - self._begun[trial.trial_id])


def _last_line(text: str) -> str:
    """What a traceback comes to."""
    return text.strip().splitlines()[-1].strip()
