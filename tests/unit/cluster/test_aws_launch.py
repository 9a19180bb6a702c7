"""Ray's own AWS provider on our file, against a stand-in for EC2 that knows EC2's machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from vjepa_exp.cluster.layout import Tree
from vjepa_exp.spec.execution import GpuName
from vjepa_exp.spec.machine_types import GPU_MEMORY_GB, MachineType, cpu_machine, gpu_counts, gpu_machine

REGION = "us-east-1"
PROFILE = "arn:aws:iam::123456789012:instance-profile/head"


@pytest.fixture
def ec2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    import boto3
    from moto import mock_aws

    for name, value in {
        "ACCESS_KEY_ID": "somebody",
        "SECRET_ACCESS_KEY": "something",
        "DEFAULT_REGION": REGION,
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray keeps the key of SSH there
    with mock_aws():
        yield boto3.client("ec2", region_name=REGION)


def test_ray_launches_the_nodes_of_both_groups(ec2: Any, rendered: Callable[..., dict[str, list[Tree]]]) -> None:
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
    from ray.autoscaler._private.util import prepare_config

    [[ours]] = rendered("aws", {"providers.aws.instance_profile": PROFILE}).values()
    config = bootstrap_aws(prepare_config(ours))
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    for name in ("gpu", "decode"):
        tags = {"ray-node-type": "worker", "ray-user-node-type": name, "ray-node-name": name}
        provider.create_node(config["available_node_types"][name]["node_config"], tags, 1)
    launched = [i for r in ec2.describe_instances()["Reservations"] for i in r["Instances"]]
    kinds = Counter((i["InstanceType"], i.get("InstanceLifecycle", "on demand")) for i in launched)
    assert kinds == {("p4de.24xlarge", "spot"): 1, ("m7i.12xlarge", "on demand"): 1}
    assert {i["Placement"]["AvailabilityZone"] for i in launched} <= {"us-east-1a", "us-east-1b"}
    assert {i["MetadataOptions"]["HttpTokens"] for i in launched} == {"required"}
    groups = {g["GroupId"] for i in launched for g in i["SecurityGroups"]}
    rules = ec2.describe_security_groups(GroupIds=list(groups))["SecurityGroups"][0]["IpPermissions"]
    assert [r["FromPort"] for r in rules if r["IpRanges"]] == [22], "only SSH from outside"


def test_machines_are_as_ec2_lists_them(ec2: Any) -> None:
    gpus: dict[str, tuple[str, int, int]] = {}
    machines: list[MachineType] = []
    for gpu in get_args(GpuName):
        for memory_gb in GPU_MEMORY_GB[gpu]:
            for count in gpu_counts("aws", gpu, memory_gb):
                machine = gpu_machine("aws", gpu, memory_gb, count)
                assert machine is not None
                machines.append(machine)
                gpus[machine.name] = (gpu, memory_gb, count)
    assert "p4d.24xlarge" in gpus
    machines += {m.name: m for cpus in range(2, 193) if (m := cpu_machine("aws", cpus, 1)) is not None}.values()
    listed = ec2.describe_instance_types(InstanceTypes=[machine.name for machine in machines])["InstanceTypes"]
    theirs = {one["InstanceType"]: one for one in listed}
    for machine in machines:
        one = theirs[machine.name]
        assert one["VCpuInfo"]["DefaultVCpus"] == machine.cpus
        assert one["MemoryInfo"]["SizeInMiB"] == machine.memory_gib * 1024
        if machine.name in gpus:
            [card] = one["GpuInfo"]["Gpus"]
            name, memory_gb, count = gpus[machine.name]
            assert (card["Name"], card["Count"]) == (name, count)
            assert card["MemoryInfo"]["SizeInMiB"] == pytest.approx(memory_gb * 1024, rel=0.05)
