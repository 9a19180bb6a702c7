"""What Ray's own code says of rendered cluster files, without a cloud and without a cluster."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import jsonschema

from vjepa_exp.spec.errors import UserError


def check_ray_up(name: str, config: dict[str, Any]) -> None:
    """What `ray up` checks before it calls a cloud: Ray's schema, defaults laid under, node types and their numbers.

    Raises:
        UserError: Ray refuses the file; one line with Ray's reason.
    """
    from ray.autoscaler._private.util import prepare_config, validate_config

    _refusal(name, lambda: validate_config(prepare_config(copy.deepcopy(config))))


def check_ray_cluster(name: str, cluster: dict[str, Any]) -> None:
    """What the autoscaler in a RayCluster's head makes of it: groups, their resources and numbers, labels.

    Args:
        name: what to call the file.
        cluster: a RayCluster, or a RayJob, whose cluster is checked.

    Raises:
        UserError: Ray refuses it; one line with Ray's reason.
    """
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
    from ray.autoscaler._private.util import validate_config

    spec = cluster["spec"].get("rayClusterSpec", cluster["spec"])
    as_cluster = copy.deepcopy({"metadata": cluster["metadata"], "spec": spec})
    _refusal(name, lambda: validate_config(_derive_autoscaling_config_from_ray_cr(as_cluster)))


def _refusal(name: str, check: Callable[[], None]) -> None:
    try:
        check()
    except jsonschema.ValidationError as error:
        where = ".".join(map(str, error.absolute_path))
        raise UserError(f"{name}: {where + ': ' if where else ''}Ray's schema says: {error.message}") from None
    except (ValueError, AssertionError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{name}: Ray refuses it: {type(error).__name__} {reason}") from None
