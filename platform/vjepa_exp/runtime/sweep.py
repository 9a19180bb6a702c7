"""Ray Tune over the stages of one level: a trial per pretraining or pass of an encoder, a few at a time.

A trial that fails does not stop the others.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune
from ray._common.constants import HEAD_NODE_RESOURCE_NAME
from ray.data._internal.execution.node_trackers import get_or_create_actor_location_tracker
from ray.data._internal.stats import get_or_create_stats_actor
from ray.tune.experiment import Trial
from ray.tune.result import DONE

from vjepa_exp.runtime.job import Failure, Outcome, StageJob
from vjepa_exp.spec.errors import UserError
from vjepa_exp.track.standing import FAILURE

if TYPE_CHECKING:
    from vjepa_exp.runtime.trainer import StandingWorkers

TRIAL_CPUS = 0.01
"""A trial only waits for its trainer: a whole CPU for that could be the one that the trainer's workers wait for."""
ON_HEAD = {HEAD_NODE_RESOURCE_NAME: 0.001}
"""On a cluster it waits on the head, which stays; elsewhere it would keep an idle node up, and be lost with one."""

Pack = tuple[StageJob, ...]
"""Stages of one trial: a pretraining alone, or probes that share a pass of their encoder."""
OnBegin = Callable[[StageJob], None]
"""Takes a stage that begins."""
OnEnd = Callable[[StageJob, Outcome | Failure, float], None]
"""Takes a stage that has ended, with its result and the seconds that it took."""


def run_level(packs: Sequence[Pack], scratch: Path, on_begin: OnBegin, on_end: OnEnd) -> None:
    """Do stages that do not need each other.

    Args:
        packs: the stages, those together that are one trial; all have the same slots.
        scratch: folder for Tune's own files, of no use later: what is to be kept is in the stages' folders.
        on_begin: called in this process whenever a stage begins.
        on_end: called in this process whenever a stage has ended.
    """
    # Of these Ray Data has one each in a cluster. The worker that made them would take them along at its end, also from
    # streams of others, and the next one would start them again.
    get_or_create_stats_actor()
    get_or_create_actor_location_tracker()
    by_id, slots = {pack[0].stage.id: pack for pack in packs}, packs[0][0].slots
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(_Trial, packs=by_id), ON_HEAD if slots.joined else {"CPU": TRIAL_CPUS}
        ),
        param_space={"stage": tune.grid_search(list(by_id))},
        tune_config=tune.TuneConfig(max_concurrent_trials=slots.concurrent, reuse_actors=True),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(scratch),
            verbose=0,
            callbacks=[_Watch(by_id, on_begin, on_end)],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=packs[0][0].execution.max_failures),
        ),
    )
    tuner.fit()


class _Trial(tune.Trainable):
    """A trial's process, which is that of the next trial too, with its training workers; it ends with the level.

    What it needs of PyTorch is imported there: the driver, which knows this class as well, would spend seconds on it.
    """

    _workers: StandingWorkers

    def setup(self, config: dict[str, Any], packs: Mapping[str, Pack]) -> None:  # type: ignore[override]
        """Take all stages of the level; `config` names those of the first trial."""
        from vjepa_exp.runtime.trainer import StandingWorkers

        self._packs, self._workers = packs, StandingWorkers()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Be another trial; it is in `config` by now."""
        return True

    def step(self) -> dict[str, Any]:
        """Outcomes, or what is wrong with the stages: all that Tune sees as an error is the loss of this process."""
        from vjepa_exp.runtime.trainer import train_stages

        pack = self._packs[self.config["stage"]]
        try:
            outcomes: Sequence[Outcome | Failure] = train_stages(pack, self._workers)
        except UserError as error:
            outcomes = [_failure(job, str(error)) for job in pack]
        except Exception:  # noqa: BLE001 (told by the driver, and all of it in the log)
            outcomes = [_failure(job, _last_line(traceback.format_exc())) for job in pack]
        return {"outcomes": outcomes, DONE: True}

    def cleanup(self) -> None:
        """Let the workers go; the next level finds the machine free."""
        self._workers.dismiss()


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

    def __init__(self, packs: Mapping[str, Pack], on_begin: OnBegin, on_end: OnEnd) -> None:
        self._packs, self._on_begin, self._on_end = packs, on_begin, on_end
        self._begun: dict[str, float] = {}

    def __reduce__(self) -> tuple[type[tune.Callback], tuple[()]]:
        """Tune saves callbacks for a restore that never comes; this one is bound to its process."""
        return tune.Callback, ()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Stages begin."""
        self._begun[trial.trial_id] = time.monotonic()
        for job in self._packs[trial.config["stage"]]:
            self._on_begin(job)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Stages are done."""
        self._end(trial, trial.last_result["outcomes"])

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial's process was lost more often than is tried again."""
        failure = Failure(_last_line(Path(trial.error_file).read_text(encoding="utf-8")))
        self._end(trial, [failure for _ in self._packs[trial.config["stage"]]])

    def _end(self, trial: Trial, results: Sequence[Outcome | Failure]) -> None:
        seconds = time.monotonic() - self._begun[trial.trial_id]
        for job, result in zip(self._packs[trial.config["stage"]], results, strict=True):
            self._on_end(job, result, seconds)


def _last_line(text: str) -> str:
    """What a traceback comes to."""
    return text.strip().splitlines()[-1].strip()
