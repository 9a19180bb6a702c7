"""How the work is done: no number depends on it beyond floating-point reduction order; no fingerprint holds it."""

from __future__ import annotations

from math import ceil
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from vjepa_exp.spec.base import NonNegativeInt, PositiveFloat, PositiveInt, Spec
from vjepa_exp.spec.texts import TrackingUri

GpuName = Literal["A100", "H100", "H200"]
Parallel = Literal["ddp", "fsdp"]
ResourceName = Annotated[str, Field(min_length=1, max_length=100)]
ReaderChoice = Literal["auto", "pyav", "torchcodec", "decord"]
DEFAULT_CACHE_GIB = 50.0


class ExecutionSpec(Spec):
    """Devices, workers, decoding and tracking of a run. None: chosen for the machine at the start, and recorded."""

    address: str | None = Field(None, description="Ray cluster; None starts Ray on this machine.")
    device: Literal["cpu", "cuda"] | None = None
    gpu: GpuName | None = Field(
        None, description="GPU that a plan's hours are stated for; None: those of this machine."
    )
    price: PositiveFloat | None = Field(
        None, description="Of a GPU (or CPU core) for an hour; a plan then says the cost."
    )
    currency: str = Field("USD", max_length=8)
    workers: PositiveInt = Field(1, description="Data-parallel training workers of one stage.")
    min_workers: PositiveInt | None = Field(
        None, description="Of them, with which a stage starts where nodes are missing; None: all."
    )
    wait_s: PositiveFloat = Field(
        300.0, description="Seconds that a start waits for all workers of a stage before it takes min_workers or more."
    )
    worker_resources: dict[ResourceName, PositiveFloat] = Field(
        {},
        description="What a training worker asks of Ray besides one CPU, and one GPU on cuda: {memory: 6.0e10}, or a "
        "resource of your nodes.",
    )
    threads: PositiveInt | None = Field(None, description="Torch threads of a CPU worker.")
    micro_batch: PositiveInt | None = Field(None, description="Clips per forward pass; None: one mask group.")
    parallel: Parallel = Field(
        "ddp",
        description="How the workers of a pretraining hold the networks. ddp: each all of them; fsdp: a slice of the "
        "weights, moments and target encoder on each. Probes hold the frozen encoder whole.",
    )
    activation_checkpointing: bool = Field(
        False,
        description="In pretraining keep of every block its input alone and compute the rest again for the backward "
        "pass: the same numbers with less memory, for about an eighth more computing.",
    )
    decode_workers: PositiveInt = Field(1, description="Decoding processes of one stage.")
    reader: ReaderChoice = Field(
        "auto",
        description="Who decodes the videos that its reading is exact on, as the manifest says; the others go to a "
        "reader that is. auto: the fastest, file by file.",
    )
    cache_dir: str | None = Field(
        None,
        description="Folder in which vjepa-exp is made for copies of remote videos, on a disk of each machine's own; "
        "None: the user's cache folder.",
    )
    cache_gib: PositiveFloat = Field(
        DEFAULT_CACHE_GIB, description="Bound of the copies on one machine; what was not used for longest goes first."
    )
    steps_per_block: PositiveInt = Field(4, description="Training steps in one block of the Ray Data stream.")
    concurrent_trials: PositiveInt | None = Field(None, description="Stages of one level at the same time.")
    probes_per_pass: PositiveInt | None = Field(
        None,
        description="Probes that share one pass of the frozen encoder when they want the same clips; None: as many as "
        "fit in memory; 1: each its own. The rounds of a sweep in a probe are not changed.",
    )
    cache_features: bool = Field(
        False,
        description="Keep features of clips that are not augmented in the store: probes with other label fractions, "
        "seeds or settings on the same encoder then need no pass of it.",
    )
    checkpoint_every: PositiveInt = Field(500, description="Steps between checkpoints, of a probe as well.")
    log_every: PositiveInt = Field(10, description="Steps between logged metrics (each costs a device sync).")
    max_failures: NonNegativeInt = Field(2, description="Restarts of one stage from its last checkpoint.")
    max_unreadable: Annotated[float, Field(ge=0, le=1)] = Field(
        0.05, description="A stage stops when more than this share of its videos cannot be decoded."
    )
    tracking_uri: TrackingUri | None = Field(None, description="MLflow server; None: SQLite in the store.")

    @property
    def slices(self) -> int:
        """Into how many the networks of a pretraining are cut."""
        return self.workers if self.parallel == "fsdp" else 1

    @model_validator(mode="after")
    def _elastic(self) -> Self:
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(f"min_workers {self.min_workers} is more than workers {self.workers}")
        return self

    @property
    def decoders(self) -> int:
        """Decoding processes of one worker: `decode_workers` are those of a stage, which its workers share evenly."""
        return ceil(self.decode_workers / self.workers)

    @property
    def fewest_workers(self) -> int:
        """Workers without which no stage starts."""
        return self.min_workers or self.workers
