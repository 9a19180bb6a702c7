"""An experiment: one base recipe, what varies, on which profile, and the paper table that it stands beside."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from vjepa_exp.spec.base import Name, NonNegativeInt, Spec
from vjepa_exp.spec.evaluate import ProbeSpec
from vjepa_exp.spec.execution import ExecutionSpec
from vjepa_exp.spec.masks import MultiBlockMask
from vjepa_exp.spec.model import ModelSpec
from vjepa_exp.spec.pretrain import PretrainSpec


class Recipe(Spec):
    """All that decides the numbers of one variant."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 234
    model: ModelSpec = ModelSpec()
    pretrain: PretrainSpec
    evaluate: dict[Name, ProbeSpec] = Field({}, description="Probes by the name of their column in the table.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for where, clip in [
            ("pretrain.data.clip", self.pretrain.data.clip),
            *((f"evaluate.{name}.clip", probe.clip) for name, probe in self.evaluate.items()),
        ]:
            if clip.resolution % self.model.patch_size:
                raise ValueError(
                    f"{where}.resolution {clip.resolution} is not divisible by model.patch_size {self.model.patch_size}"
                )
            if clip.num_frames % self.model.tubelet_size:
                raise ValueError(
                    f"{where}.num_frames {clip.num_frames} is not divisible by model.tubelet_size "
                    f"{self.model.tubelet_size}"
                )
        self._check_masks()
        return self

    def _check_masks(self) -> None:
        t, h, _ = self.grid
        for i, mask in enumerate(self.pretrain.masks):
            where = f"pretrain.masks.{i}"
            if not isinstance(mask, MultiBlockMask):
                if int(h * h * (1 - mask.ratio)) < 1:
                    raise ValueError(f"{where}.ratio {mask.ratio} leaves no context on a grid of {h}x{h} cells")
            elif int(h * h * mask.spatial_scale[0]) < 1:
                raise ValueError(f"{where}.spatial_scale {mask.spatial_scale[0]} is below one of {h}x{h} cells")
            elif mask.leaves_nothing(self.grid):
                raise ValueError(
                    f"{where}.spatial_scale {mask.spatial_scale[1]} lets a block cover the whole clip of {t}x{h}x{h} "
                    "tokens and leave no context: use smaller blocks or a larger clip"
                )

    @property
    def grid(self) -> tuple[int, int, int]:
        """Token grid (T', H', W') of a pretraining clip."""
        clip = self.pretrain.data.clip
        side = clip.resolution // self.model.patch_size
        return clip.num_frames // self.model.tubelet_size, side, side


class Vary(Spec):
    """What differs between variants: a factor of `ablations/`, or axes over recipe fields written in YAML."""

    ablation: Annotated[str, Field(pattern=r"^[a-z_0-9]+\.[a-z_0-9]+$")] | None = Field(
        None, description="Levels from a function in ablations/, written file.function."
    )
    axes: dict[str, dict[Name, Any]] = Field(
        {}, description="Per axis a dotted recipe field and named values for it; several axes are crossed."
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.ablation is None) == (not self.axes):
            raise ValueError("vary: give either 'ablation' or 'axes'")
        return self


class PaperReference(Spec):
    """The published table that a study stands beside."""

    table: Annotated[int, Field(ge=1, le=16)]


class ProfileUse(Spec):
    """A profile of an experiment: a file to start from and what this experiment changes in it."""

    extends: str | None = None
    overlay: dict[str, Any] = Field({}, description="Laid over the profile.")


class Requirements(Spec):
    """What a machine must have for `auto` to choose a profile."""

    gpus: NonNegativeInt = 0
    gpu_memory_gb: NonNegativeInt = 0


class Profile(Spec):
    """A named overlay on a recipe that fits it to a kind of machine."""

    description: str
    requires: Requirements = Requirements()
    differs: str = Field("", description="How its numbers differ from the paper's, in one sentence, for the user.")
    datasets: dict[Name, Name] = Field({}, description="Data sets that stand in for those of the recipe.")
    evaluate_each: dict[str, Any] = Field({}, description="Laid over every entry of recipe.evaluate.")
    overlay: dict[str, Any] = Field({}, description="Laid over the experiment (recipe, execution, seeds, ...).")


class Experiment(Spec):
    """One YAML file of `experiments/`, resolved for one profile."""

    name: Name
    title: str = ""
    paper: PaperReference | None = None
    recipe: Recipe
    vary: Vary | None = None
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**63)], ...] = Field(
        (), description="Repeat every variant with these seeds; empty: recipe.seed alone."
    )
    baselines: tuple[Literal["random_init"], ...] = Field(
        (), description="random_init: the same probes on the same encoder without pretraining."
    )
    profiles: dict[Name, ProfileUse] = Field({}, description="Profiles by name; a bare path means `extends`.")
    execution: ExecutionSpec = ExecutionSpec()

    @model_validator(mode="after")
    def _seeds(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: a seed is listed twice")
        return self
