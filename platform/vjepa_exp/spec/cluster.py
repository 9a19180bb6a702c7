"""A cluster: what `vjepa-exp cluster render` writes for Ray's autoscaler on AWS and GCP, and for KubeRay.

It belongs to the execution: nothing of it enters a recipe or a fingerprint.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from vjepa_exp.spec.base import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Spec
from vjepa_exp.spec.document import Document, read_yaml
from vjepa_exp.spec.errors import Problem, SpecError
from vjepa_exp.spec.execution import GpuName
from vjepa_exp.spec.machine_types import GPU_MEMORY_GB, Cloud, MachineType, cpu_machine, gpu_counts, gpu_machine
from vjepa_exp.spec.problems import validate
from vjepa_exp.spec.texts import (
    AbsolutePath,
    ClusterName,
    HttpUri,
    Image,
    KubeName,
    Labels,
    OneLine,
    StorageUri,
    UserName,
    VariableName,
    ZoneName,
)

Provider = Literal["aws", "gcp", "kuberay"]
PROVIDERS: tuple[Provider, ...] = get_args(Provider)

SECRET_WORDS = ("PASSWORD", "PASSWD", "SECRET", "TOKEN", "CREDENTIAL", "ACCESS_KEY", "API_KEY", "PRIVATE_KEY")


class AwsSpec(Spec):
    """Where on AWS."""

    region: ZoneName
    zones: tuple[ZoneName, ...] = Field(min_length=1, description="Tried in this order.")
    machine_image: OneLine = Field(description="AMI with Docker and NVIDIA's driver, or resolve:ssm:PARAMETER.")
    ssh_user: UserName = "ubuntu"
    security_groups: tuple[OneLine, ...] = Field(
        (), description="Of all nodes; empty: Ray makes one, which lets SSH in from anywhere."
    )
    instance_profile: OneLine | None = Field(
        None, description="ARN for the head; None: Ray makes one that may do all of EC2 and S3."
    )
    worker_instance_profile: OneLine | None = Field(
        None, description="ARN for the workers, which read videos with it; None: no role, public buckets alone."
    )

    @model_validator(mode="after")
    def _zones(self) -> Self:
        for i, zone in enumerate(self.zones):
            if not zone.startswith(self.region):
                raise ValueError(f"zones.{i} {zone} is not in region {self.region}")
        return self


class GcpSpec(Spec):
    """Where on GCP."""

    project: OneLine
    region: ZoneName
    zone: ZoneName = Field(description="Ray's autoscaler takes one.")
    machine_image: OneLine = Field(description="Image or image family with Docker and NVIDIA's driver.")
    worker_service_account: OneLine | None = Field(
        None, description="Address for the workers, which read videos with it; None: none, public buckets alone."
    )
    ssh_user: UserName = "ubuntu"

    @model_validator(mode="after")
    def _zone(self) -> Self:
        if not self.zone.startswith(f"{self.region}-"):
            raise ValueError(f"zone {self.zone} is not in region {self.region}")
        return self


class KubeRaySpec(Spec):
    """Where on Kubernetes. Labels are those of the nodes; a spot label is tolerated as a taint too."""

    namespace: KubeName = "default"
    gpu_nodes: Labels = Field({}, description="Labels of the nodes with the GPUs.")
    decode_nodes: Labels = Field({}, description="Labels of the nodes for decoding.")
    spot_nodes: Labels = Field({}, description="Labels that spot nodes have besides.")
    worker_service_account: KubeName | None = Field(
        None, description="Of the workers, which read videos with it; None: the namespace's default."
    )
    storage_class: KubeName | None = Field(None, description="Of PostgreSQL's disk; None: the cluster's default.")


class ProvidersSpec(Spec):
    """The providers that a cluster can be rendered for."""

    aws: AwsSpec | None = None
    gcp: GcpSpec | None = None
    kuberay: KubeRaySpec | None = None

    @property
    def named(self) -> list[Provider]:
        """Those that the file has a section for."""
        return [name for name in PROVIDERS if getattr(self, name) is not None]

    @model_validator(mode="after")
    def _one(self) -> Self:
        if not self.named:
            raise ValueError(f"needs a section for at least one of {', '.join(PROVIDERS)}")
        return self


class NodePrice(Spec):
    """What a node costs in an hour, for plans. The program knows no prices: whoever pays writes them down."""

    on_demand: PositiveFloat | None = Field(None, description="USD for a node and hour.")
    spot: PositiveFloat | None = Field(None, description="USD for a spot node and hour.")
    source: OneLine = Field(description="Where and on which day it was read; a plan repeats it.")


class HeadSpec(Spec):
    """The node of the driver and of Ray's own processes; always one, never a spot node."""

    cpus: PositiveInt = 8
    memory_gib: PositiveInt = 32
    disk_gib: PositiveInt = 200
    price_per_hour: NodePrice | None = Field(None, description="For plans.")


class DecodeGroup(Spec):
    """Nodes of one kind, as many as pending work asks for."""

    min_nodes: NonNegativeInt = 0
    max_nodes: PositiveInt
    spot: bool = False
    cpus: PositiveInt = Field(description="Of a node, at least; on Kubernetes of a pod, so leave room for the system.")
    memory_gib: PositiveInt = Field(description="As cpus.")
    disk_gib: PositiveInt = Field(200, description="Of a node, for the image and the copies of remote videos.")
    price_per_hour: NodePrice | None = Field(None, description="For plans.")
    interruptions_per_node_hour: NonNegativeFloat | None = Field(
        None, description="How often a node is lost, for plans: 0.02 is once in 50 hours. None: no loss is counted."
    )
    start_minutes: PositiveFloat = Field(
        5.0, description="From the request to a node that works, for plans; an assumption until you measured it."
    )

    @property
    def price(self) -> float | None:
        """USD for a node and hour, spot or on demand as the group is; None where it is not configured."""
        if self.price_per_hour is None:
            return None
        return self.price_per_hour.spot if self.spot else self.price_per_hour.on_demand

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.min_nodes > self.max_nodes:
            raise ValueError(f"min_nodes {self.min_nodes} is more than max_nodes {self.max_nodes}")
        return self


class GpuGroup(DecodeGroup):
    """Nodes with GPUs."""

    accelerator: GpuName
    gpu_memory_gb: Literal[40, 80, 141]
    gpus_per_node: Literal[1, 2, 4, 8]
    network_gbit_per_s: PositiveFloat | None = Field(
        None, description="Between nodes, of one node, for plans; None: a plan says what is needed and no more."
    )

    @model_validator(mode="after")
    def _sold(self) -> Self:
        if self.gpu_memory_gb not in GPU_MEMORY_GB[self.accelerator]:
            sizes = " or ".join(map(str, GPU_MEMORY_GB[self.accelerator]))
            raise ValueError(f"gpu_memory_gb {self.gpu_memory_gb} is no size of an {self.accelerator}: {sizes}")
        return self


class StorageSpec(Spec):
    """The disk that all nodes share, with the store, the registry of data sets and MLflow's artifacts."""

    uri: StorageUri
    mount: AbsolutePath = Field("/mnt/vjepa", description="Where nodes see it.")
    mb_per_s: PositiveFloat = Field(
        500.0, description="Read or written in a second, for plans; an assumption until you measured it."
    )


class ExternalTracking(Spec):
    """An MLflow server that is there already."""

    kind: Literal["external"]
    uri: HttpUri


class InClusterTracking(Spec):
    """An MLflow server with PostgreSQL: pods on Kubernetes, containers of the head elsewhere."""

    kind: Literal["in_cluster"]
    secret: KubeName = Field(
        "mlflow-postgres",
        description="Kubernetes Secret, made by you: `password` is PostgreSQL's, `admin-password` MLflow's.",
    )
    postgres_image: Image = "postgres:17"
    disk_gib: PositiveInt = Field(20, description="PostgreSQL's disk on Kubernetes.")


Tracking = Annotated[ExternalTracking | InClusterTracking, Field(discriminator="kind")]


class ClusterSpec(Spec):
    """One YAML file of `clusters/`."""

    name: ClusterName
    image: Image = Field(description="Of all containers, built from docker/Dockerfile.")
    providers: ProvidersSpec
    head: HeadSpec = HeadSpec()
    gpu: GpuGroup
    decode: DecodeGroup | None = Field(None, description="Nodes without GPUs, for decoding; None: none.")
    idle_timeout_minutes: PositiveFloat = Field(10.0, description="A node that is idle for so long goes.")
    storage: StorageSpec
    tracking: Tracking
    environment: dict[VariableName, OneLine] = Field({}, description="Variables of Ray's containers; no secrets.")

    @model_validator(mode="after")
    def _no_secrets(self) -> Self:
        for name in self.environment:
            if any(word in name.upper() for word in SECRET_WORDS):
                raise ValueError(
                    f"environment.{name} looks like a secret, and what is rendered is plain text: give nodes a role "
                    "(AWS, GCP) or a service account (Kubernetes) instead"
                )
        return self

    @model_validator(mode="after")
    def _fits_providers(self) -> Self:
        for cloud in (name for name in self.providers.named if name != "kuberay"):
            if self.storage.uri.startswith("pvc://"):
                raise ValueError(f"storage.uri {self.storage.uri} is for Kubernetes alone; {cloud} needs nfs://")
            self.gpu_machine(cloud)
            self.cpu_machine(cloud, "head")
            if self.decode is not None:
                self.cpu_machine(cloud, "decode")
        kuberay = self.providers.kuberay
        spot = next((name for name in ("gpu", "decode") if (group := getattr(self, name)) and group.spot), None)
        if kuberay is not None and spot and not kuberay.spot_nodes:
            raise ValueError(f"{spot}.spot needs providers.kuberay.spot_nodes, the labels of spot nodes")
        return self

    def gpu_machine(self, cloud: Cloud) -> MachineType:
        """The machine of the GPU group.

        Raises:
            ValueError: the provider has none; the text begins with the field to change.
        """
        group = self.gpu
        what = f"{group.accelerator} of {group.gpu_memory_gb} GB"
        machine = gpu_machine(cloud, group.accelerator, group.gpu_memory_gb, group.gpus_per_node)
        if machine is None:
            counts = " or ".join(map(str, gpu_counts(cloud, group.accelerator, group.gpu_memory_gb)))
            raise ValueError(f"gpu.gpus_per_node: a machine of {cloud} has {counts} {what}, not {group.gpus_per_node}")
        for name, asked, has in (
            ("cpus", group.cpus, machine.cpus),
            ("memory_gib", group.memory_gib, machine.memory_gib),
        ):
            if asked > has:
                raise ValueError(f"gpu.{name} {asked} is more than the {has} of {machine.name}")
        return machine

    def cpu_machine(self, cloud: Cloud, group: Literal["head", "decode"]) -> MachineType:
        """The machine of the head or of the decode group.

        Raises:
            ValueError: the provider has none so large; the text begins with the field to change.
        """
        asked = self.head if group == "head" or self.decode is None else self.decode
        machine = cpu_machine(cloud, asked.cpus, asked.memory_gib)
        if machine is None:
            raise ValueError(f"{group}.cpus {asked.cpus} with {asked.memory_gib} GiB is more than {cloud} sells")
        return machine


def is_cluster(document: Document) -> bool:
    """Whether a file describes a cluster, and not an experiment."""
    return isinstance(document.data, dict) and "recipe" not in document.data and "providers" in document.data


def read_cluster(path: Path, provider: Provider | None = None) -> tuple[ClusterSpec, list[Provider]]:
    """A cluster, and the providers to render it for: the one that is asked for, or all that the file has a section for.

    Raises:
        SpecError: it cannot be read, is not valid, or has no section for the provider.
    """
    document = read_yaml(path)
    spec = validate(ClusterSpec, document)
    named = spec.providers.named
    if provider is not None and provider not in named:
        missing = f"has no section '{provider}', only {', '.join(named)}: add one to render the cluster for {provider}"
        raise SpecError([Problem(document.mark(("providers",)), "providers", missing)])
    return spec, named if provider is None else [provider]
