"""Where a training worker begins. Ray's controller reads this too: what only workers need is imported later, there."""

from __future__ import annotations

from typing import Any

from vjepa_exp.runtime.job import Failure, Outcome


def worker(config: dict[str, Any]) -> list[Outcome | Failure] | None:
    """Do the stages of `config` (`jobs`), or those that come through an `exchange` until there are no more."""
    from ray.train import get_context

    from vjepa_exp.runtime.group import serve
    from vjepa_exp.runtime.notice import terminated
    from vjepa_exp.runtime.worker import work

    if "jobs" in config:
        return work(config["jobs"])
    serve(config["exchange"], work, get_context().get_world_rank(), terminated)
    return None
