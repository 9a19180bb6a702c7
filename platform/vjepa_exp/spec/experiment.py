"""An experiment: one base recipe, what varies, on which profile, and the paper table that it stands beside."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from vjepa_exp.spec.base import Name, NonNegativeInt, Spec
from vjepa_exp.spec.evaluate import EvaluationSpec, Seed
from vjepa_exp.spec.execution import ExecutionSpec
from vjepa_exp.spec.masks import MultiBlockMask
from vjepa_exp.spec.model import ModelSpec
from vjepa_exp.spec.pretrain import PretrainSpec
from vjepa_exp.spec.vary import Vary


class Recipe(Spec):
    """All that decides the numbers of one variant."""

    seed: Seed = 234
    model: ModelSpec = ModelSpec()
    pretrain: PretrainSpec
    evaluate: dict[Name, EvaluationSpec] = Field({}, description="By the name of their column in the table.")

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


class PaperReference(Spec):
    """The published table or figure, or the part of one, that a study stands beside."""

    table: Annotated[int, Field(ge=1, le=16)] | None = None
    figure: Annotated[int, Field(ge=1, le=9)] | None = None
    row: Name | None = Field(None, description="The row that the recipe is where nothing varies.")
    rows: tuple[Name, ...] = Field((), description="Rows that this study covers; empty: all.")
    columns: tuple[Name, ...] = Field((), description="Columns that this study covers; empty: all.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.table is None) == (self.figure is None):
            raise ValueError("give either 'table' or 'figure'")
        return self

    @property
    def name(self) -> str:
        """'table4', 'figure8': the published file's name."""
        return f"table{self.table}" if self.table else f"figure{self.figure}"

    @property
    def short(self) -> str:
        """'T4', 'F8'."""
        return f"T{self.table}" if self.table else f"F{self.figure}"


class ReleasedModel(Spec):
    """Somebody else's model, a row of a table: which weights, and which of its numbers were never evaluated anew."""

    weights: Name = Field(description="Name of the released weights; rows of several tables that share it share work.")
    label: str
    quoted: tuple[Name, ...] = Field((), description="Columns that the paper took over from other papers: no work.")
    evaluate: dict[Name, dict[str, Any]] = Field({}, description="Laid over a column of the recipe for this row.")


class MeanColumn(Spec):
    """The mean of other columns of the row."""

    kind: Literal["mean"]
    of: tuple[Name, ...] = Field(min_length=2)


class SamplesColumn(Spec):
    """Clips that the pretraining saw, in millions."""

    kind: Literal["samples"]


class TimingColumn(Spec):
    """Hours of pretraining, from the time of an iteration on one GPU (Figure 5)."""

    kind: Literal["timing"]
    micro_batch: int = 10


DerivedColumn = Annotated[MeanColumn | SamplesColumn | TimingColumn, Field(discriminator="kind")]


class ProfileUse(Spec):
    """A profile of an experiment: a file to start from and what this experiment changes in it."""

    extends: str | None = None
    datasets: dict[Name, Name] = Field({}, description="More stand-ins, or others than the profile's.")
    evaluate_each: dict[str, Any] = Field({}, description="Laid over every probe, after the profile's.")
    overlay: dict[str, Any] = Field({}, description="Laid over the profile.")
    differs: str = Field("", description="What its numbers differ by besides what the profile says, in one sentence.")


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
    evaluate_each: dict[str, Any] = Field({}, description="Laid over every probe of recipe.evaluate.")
    overlay: dict[str, Any] = Field({}, description="Laid over the experiment (recipe, execution, seeds, ...).")


class Experiment(Spec):
    """One YAML file of `experiments/`, resolved for one profile."""

    name: Name
    title: str = ""
    paper: PaperReference | None = None
    recipe: Recipe
    vary: Vary | None = None
    seeds: tuple[Seed, ...] = Field((), description="Repeat every variant with these seeds; empty: recipe.seed alone.")
    baselines: tuple[Literal["random_init"], ...] = Field(
        (), description="random_init: the same probes on the same encoder without pretraining."
    )
    own: bool = Field(True, description="false: only other people's models, nothing of ours stands in the table.")
    released: dict[Name, ReleasedModel] = Field({}, description="Other people's models by their row.")
    derived: dict[Name, DerivedColumn] = Field({}, description="Columns that need no work of their own.")
    profiles: dict[Name, ProfileUse] = Field({}, description="Profiles by name; a bare path means `extends`.")
    execution: ExecutionSpec = ExecutionSpec()

    @model_validator(mode="after")
    def _seeds(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: a seed is listed twice")
        repeated = [name for name, evaluation in self.recipe.evaluate.items() if evaluation.seeds]
        if self.seeds and repeated:
            raise ValueError(
                f"recipe.evaluate.{repeated[0]}.seeds repeats the evaluation and 'seeds' the whole variant: give one"
            )
        return self

    @model_validator(mode="after")
    def _columns(self) -> Self:
        for name, column in self.derived.items():
            if name in self.recipe.evaluate:
                raise ValueError(f"derived.{name} is also a column of recipe.evaluate")
            for other in column.of if isinstance(column, MeanColumn) else ():
                if other not in self.recipe.evaluate:
                    raise ValueError(f"derived.{name}.of names '{other}', which is no column of recipe.evaluate")
        for row, released in self.released.items():
            for column_name in (*released.quoted, *released.evaluate):
                if column_name not in {*self.recipe.evaluate, *self.derived}:
                    raise ValueError(f"released.{row} names '{column_name}', which is no column of this experiment")
        return self
