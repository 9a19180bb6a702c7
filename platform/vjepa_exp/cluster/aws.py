"""`ray up` on AWS."""

from __future__ import annotations

from vjepa_exp.cluster.layout import Tree
from vjepa_exp.cluster.ray_up import DECODE, GPU, HEAD, gpu_resources, head_type, ray_up, worker_type
from vjepa_exp.spec.cluster import AwsSpec, ClusterSpec
from vjepa_exp.spec.machine_types import MachineType


def aws_cluster(spec: ClusterSpec) -> Tree:
    """The file that `ray up` takes; `spec` has a section for AWS."""
    aws = spec.providers.aws
    assert aws is not None
    head = _node_config(aws, spec.cpu_machine("aws", "head"), spec.head.disk_gib, aws.instance_profile)
    machine = spec.gpu_machine("aws")
    role = aws.worker_instance_profile
    config = _node_config(aws, machine, spec.gpu.disk_gib, role, spot=spec.gpu.spot)
    types = {HEAD: head_type(head), GPU: worker_type(spec.gpu, machine, config, gpu_resources(spec))}
    if spec.decode is not None:
        machine = spec.cpu_machine("aws", "decode")
        config = _node_config(aws, machine, spec.decode.disk_gib, role, spot=spec.decode.spot)
        types[DECODE] = worker_type(spec.decode, machine, config)
    provider = {
        "type": "aws",
        "region": aws.region,
        "availability_zone": ",".join(aws.zones),
        "cache_stopped_nodes": False,  # a node that goes is not paid for any more
    }
    return ray_up(spec, provider, aws.ssh_user, types)


def _node_config(aws: AwsSpec, machine: MachineType, disk_gib: int, profile: str | None, *, spot: bool = False) -> Tree:
    """What EC2's RunInstances takes."""
    disk = {"VolumeSize": disk_gib, "VolumeType": machine.disk_type, "Encrypted": True, "DeleteOnTermination": True}
    config: Tree = {
        "InstanceType": machine.name,
        "ImageId": aws.machine_image,
        "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": disk}],
        "MetadataOptions": {"HttpTokens": "required"},
    }
    if profile is not None:
        config["IamInstanceProfile"] = {"Arn": profile}
    if aws.security_groups:
        config["SecurityGroupIds"] = list(aws.security_groups)
    if spot:
        config["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": {"SpotInstanceType": "one-time"}}
    return config
