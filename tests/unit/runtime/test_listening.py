"""A local run listens on the loopback interface and nowhere else: Ray's processes, and training workers."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
import torch
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from vjepa_exp.runtime.process_group import OneMachine

pytestmark = pytest.mark.ray


def beyond_loopback(processes: list[psutil.Process]) -> list[str]:
    """Sockets on which somebody waits for other machines."""
    found = []
    for process in processes:
        for one in process.net_connections("inet"):
            if one.status == psutil.CONN_LISTEN and not _is_loopback(one.laddr.ip):
                found.append(f"{process.name()} on {one.laddr.ip}")
    return found


def _is_loopback(text: str) -> bool:
    address = ipaddress.ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def test_no_process_of_ray_listens_beyond_loopback(ray_session: None) -> None:
    assert ray.get(ray.remote(lambda: 1).remote()) == 1, "a worker is up"
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    names = {process.name() for process in family}
    assert {"raylet", "gcs_server"} <= names, "this process has started Ray itself"
    listening = [one for p in family for one in p.net_connections("inet") if one.status == psutil.CONN_LISTEN]
    assert len(listening) > 4
    assert beyond_loopback(family) == []


def test_training_workers_meet_without_listening_beyond_loopback(ray_session: None, tmp_path: Path) -> None:
    def train(_: dict[str, Any]) -> tuple[float, list[str]]:
        total = torch.tensor([1.0 + torch.distributed.get_rank()])
        torch.distributed.all_reduce(total)
        return float(total), beyond_loopback([psutil.Process()])

    trainer = TorchTrainer(
        train,  # type: ignore[arg-type]
        train_loop_config={},
        torch_config=OneMachine("gloo", str(tmp_path)),
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(storage_path=str(tmp_path)),
    )
    assert trainer.fit().return_value == (3.0, [])  # type: ignore[attr-defined]


def test_the_sockets_of_everybody_are_noticed() -> None:
    import socket

    with socket.socket() as everybody, socket.socket() as here:
        everybody.bind(("0.0.0.0", 0))
        here.bind(("127.0.0.1", 0))
        everybody.listen()
        here.listen()
        assert [name.split()[-1] for name in beyond_loopback([psutil.Process()])].count("0.0.0.0") >= 1
        assert not any("127.0.0.1" in name for name in beyond_loopback([psutil.Process()]))
