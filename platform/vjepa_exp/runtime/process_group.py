"""How the training workers of one machine find each other: at a file, as PyTorch's usual store listens to everybody.

Ray's controller reads this too. PyTorch is imported in the workers, where it is needed; the controller, for which they
wait, would spend seconds on it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import ray
from ray.exceptions import GetTimeoutError
from ray.train.backend import Backend, BackendConfig

LEAVE_S = 30.0


@dataclass
class OneMachine(BackendConfig):
    """As Ray's `TorchConfig`, for workers that share a disk.

    Attributes:
        backend: of torch.distributed.
        folder: for the file; gone after the run.
    """

    backend: str
    folder: str

    @property
    def backend_cls(self) -> type[Backend]:
        """What Ray calls in the workers' controller."""
        return _AtFile

    @property
    def train_func_context(self) -> type[AbstractContextManager[None]]:
        """What Ray enters in a worker before it trains."""
        return _OnItsDevice


class _OnItsDevice(AbstractContextManager[None]):
    def __enter__(self) -> None:
        from ray.train.torch.config import TorchConfigContextManager

        TorchConfigContextManager().__enter__()

    def __exit__(self, *_: object) -> None:
        pass


class _AtFile(Backend):
    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        assert isinstance(backend_config, OneMachine)
        meeting, size = Path(backend_config.folder).absolute() / f"meeting-{uuid4().hex}", len(worker_group)
        joined = [
            worker_group.execute_single_async(rank, _join, backend_config.backend, rank, size, meeting.as_uri())
            for rank in range(size)
        ]
        ray.get(joined)

    def on_shutdown(self, worker_group: Any, backend_config: BackendConfig) -> None:
        with suppress(GetTimeoutError):  # they end in any case
            ray.get(worker_group.execute_async(_leave, len(worker_group)), timeout=LEAVE_S)


def _join(backend: str, rank: int, size: int, meeting: str) -> None:
    from ray.train.torch.config import _set_torch_distributed_env_vars, _setup_torch_process_group

    _set_torch_distributed_env_vars()
    _setup_torch_process_group(backend=backend, world_rank=rank, world_size=size, init_method=meeting)


def _leave(size: int) -> None:
    from ray.train.torch.config import _shutdown_torch

    _shutdown_torch(destroy_process_group=size > 1)
