"""What the model is shown: data sets and their mixture, clips, augmentation (paper section 3.4, appendix B)."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from vjepa_exp.spec.augment import Augment, CropFlip
from vjepa_exp.spec.base import Name, PositiveFloat, PositiveInt, Spec


class ClipSpec(Spec):
    """A clip [C, T, H, W]: `num_frames` frames, equally far apart, square of `resolution` pixels.

    A still image is its frame `num_frames` times, as in the released code.
    """

    num_frames: PositiveInt = 16
    frame_step: PositiveInt | None = Field(4, description="Distance in frames of the video.")
    fps: PositiveFloat | None = Field(
        None,
        description="Instead of frame_step: frames per second of the clip. Each is the frame nearest in time, so files "
        "of 15 and of 60 frames per second show the same seconds; a slower file than this repeats frames.",
    )
    resolution: PositiveInt = 224
    indexing: Literal["parity", "exact"] = Field(
        "parity",
        description="parity: the reference's linspace over num_frames*frame_step frames (average spacing a "
        "little over frame_step); exact: every frame_step-th frame. With fps always exact.",
    )

    @model_validator(mode="before")
    @classmethod
    def _by_time(cls, values: Any) -> Any:
        """`fps` alone is enough: the fields that do not go with it take the values that do."""
        if isinstance(values, dict) and values.get("fps") is not None:
            return {"frame_step": None, "indexing": "exact", **values}
        return values

    @model_validator(mode="after")
    def _one_distance(self) -> Self:
        if (self.frame_step is None) == (self.fps is None):
            raise ValueError("give either frame_step or fps, and set the other one to null")
        if self.fps is not None and self.indexing != "exact":
            raise ValueError("indexing: parity counts frames; with fps it must be exact")
        return self


class MixtureEntry(Spec):
    """One data set of a mixture; without weights the sets are sampled in proportion to their sizes."""

    dataset: Name
    weight: PositiveFloat | None = None
    exclude: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="Removal list (`vjepa-exp data leaks`): its videos are never shown. A relative path counts from "
        "the registry of data sets. What the list holds enters the fingerprint, not where it lies.",
    )

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without `exclude` where nothing is: such an entry keeps the fingerprint that it had before lists were."""
        fields: dict[str, Any] = write(self)
        return fields if self.exclude is not None else {k: v for k, v in fields.items() if k != "exclude"}


class DataSpec(Spec):
    """The stream of pretraining clips."""

    mixture: tuple[MixtureEntry, ...] = Field(min_length=1)
    clip: ClipSpec = ClipSpec()
    augment: Augment = CropFlip()

    @model_validator(mode="after")
    def _weights(self) -> Self:
        with_weight = sum(entry.weight is not None for entry in self.mixture)
        if with_weight not in (0, len(self.mixture)):  # first: two stand-ins of which one has a weight are not merged
            raise ValueError("mixture: give every data set a weight, or none")
        names = [entry.dataset for entry in self.mixture]
        if len(set(names)) < len(names):
            raise ValueError(f"mixture names a data set twice: {', '.join(names)}")
        return self
