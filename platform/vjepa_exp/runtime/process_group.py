"""How the training workers of one machine find each other: at a file, as PyTorch's usual store listens to everybody."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import ray
from ray.train.backend import BackendConfig
from ray.train.torch import TorchConfig
from ray.train.torch.config import _set_torch_distributed_env_vars, _setup_torch_process_group, _TorchBackend


@dataclass
class OneMachine(TorchConfig):
    """As Ray's, for workers that share a disk.

    Attributes:
        folder: for the file; gone after the run.
    """

    folder: str = ""

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        """What Ray calls in the workers' controller."""
        return _AtFile


class _AtFile(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        assert isinstance(backend_config, OneMachine)
        meeting = Path(backend_config.folder).absolute() / f"meeting-{uuid4().hex}"
        worker_group.execute(_set_torch_distributed_env_vars)
        size = len(worker_group)
        joined = [
            worker_group.execute_single_async(
                rank,
                _setup_torch_process_group,
                backend=backend_config.backend,
                world_rank=rank,
                world_size=size,
                init_method=meeting.as_uri(),
                timeout_s=backend_config.timeout_s,
            )
            for rank in range(size)
        ]
        ray.get(joined)
