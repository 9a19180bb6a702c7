"""The MLflow runs of one study, made and filled so that every call may fail and be made again.

A server may have done what it was asked for although its answer never came. So what would be there twice carries a mark
that was noted before (`Entry.claim`), and is looked for before it is made; all else is the same when it is sent again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vjepa_exp.track.connection import Connection
from vjepa_exp.track.journal import Row
from vjepa_exp.track.ledger import Entry, Ledger, Status
from vjepa_exp.track.starts import Start

if TYPE_CHECKING:
    from mlflow.entities import Metric

PARAMS_PER_REQUEST = 100  # MLflow's limits
METRICS_PER_REQUEST = 1000


class Runs:
    """The runs of a study.

    Args:
        connection: to the server.
        ledger: what the server was told.
        tags: of every run.
    """

    def __init__(self, connection: Connection, ledger: Ledger, tags: Mapping[str, str]) -> None:
        self.connection, self.ledger, self._tags = connection, ledger, dict(tags)

    def open(
        self,
        key: str,
        name: str,
        parent: Entry | None,
        params: Mapping[str, str],
        tags: Mapping[str, str],
        start: float | None = None,
    ) -> Entry:
        """The run of a key, made where there is none and running again where it had ended without success."""
        entry = self.ledger.entries.get(key)
        if entry is None:
            entry = self.ledger.entries[key] = Entry()
            self.ledger.save()
        if not entry.run_id:
            entry.run_id = self._found(entry) or self._made(entry, name, parent, tags, start)
            self.ledger.save()
        elif entry.status in ("FAILED", "KILLED"):
            self.connection.client.update_run(entry.run_id, status="RUNNING")
            entry.status = "RUNNING"
        self.once(entry, "params", lambda: self._log_params(entry, params))
        return entry

    def close(self, key: str, status: Status, end: float | None = None) -> None:
        """End a run, at `end` in seconds since 1970 or now."""
        entry = self.ledger.entries[key]
        if entry.status != status:
            self.connection.client.set_terminated(entry.run_id, status, None if end is None else int(1000 * end))
            entry.status = status
            self.ledger.save()

    def once(self, entry: Entry, what: str, tell: Callable[[], object]) -> None:
        """Tell what has not arrived yet."""
        if what not in entry.told:
            tell()
            entry.told.append(what)
            self.ledger.save()

    def send(self, entry: Entry, rows: Sequence[Row]) -> None:
        """Send rows of the journal that the run does not hold."""
        per_request = max(1, METRICS_PER_REQUEST // max((len(row) for row in rows), default=1))
        for i in range(0, len(rows), per_request):
            part = rows[i : i + per_request]
            found = [one for row in part for one in metrics(_values(row), int(row["step"]), row["time"])]
            self.connection.client.log_batch(entry.run_id, metrics=found)
            entry.step = int(part[-1]["step"])
            self.ledger.save()

    def send_starts(self, entry: Entry, starts: Sequence[Start]) -> None:
        """Send starts that the run does not hold."""
        for start in starts[entry.starts :]:
            values = {f"start.{phase}_s": seconds for phase, seconds in start.seconds.items()}
            values |= {"start.total_s": start.total, "start.repeated_steps": start.repeated}
            values |= {"start.lost_s": start.lost, "start.workers": start.workers}
            self.connection.client.log_batch(entry.run_id, metrics=metrics(values, start.step, start.time))
            entry.starts += 1
            self.ledger.save()

    def _found(self, entry: Entry) -> str:
        found = self.connection.client.search_runs([self.connection.experiment], f"tags.claim = '{entry.claim}'")
        return str(found[0].info.run_id) if found else ""

    def _made(self, entry: Entry, name: str, parent: Entry | None, tags: Mapping[str, str], start: float | None) -> str:
        above = {"mlflow.parentRunId": parent.run_id} if parent else {}
        run = self.connection.client.create_run(
            self.connection.experiment,
            start_time=None if start is None else int(1000 * start),
            run_name=name,
            tags={**self._tags, **tags, **above, "claim": entry.claim},
        )
        return str(run.info.run_id)

    def _log_params(self, entry: Entry, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        items = [Param(name, value) for name, value in params.items()]
        for i in range(0, len(items), PARAMS_PER_REQUEST):
            self.connection.client.log_batch(entry.run_id, params=items[i : i + PARAMS_PER_REQUEST])


def metrics(values: Mapping[str, float], step: int, seconds: float | None, **of: Any) -> list[Metric]:
    """MLflow's form of values at a step and time (seconds since 1970, None: now); `of` names a model or data set."""
    from mlflow.entities import Metric

    milliseconds = int(1000 * (time.time() if seconds is None else seconds))
    return [Metric(name, value, milliseconds, step, **of) for name, value in values.items()]


def _values(row: Row) -> dict[str, float]:
    return {name: value for name, value in row.items() if name not in ("step", "time")}
