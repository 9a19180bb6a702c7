"""A sweep nested in a study: settings of a probe that are chosen anew for every encoder."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from vjepa_exp.spec.base import NonNegativeInt, PositiveInt, Spec
from vjepa_exp.spec.vary import Distribution, Grid

SweptField = Literal["lr", "final_lr", "weight_decay", "final_weight_decay", "warmup_epochs", "clip_grad"]
"""Fields of a probe's `optim` that may be swept: all candidates then share each pass of the frozen encoder."""


class ProbeSweep(Spec):
    """Candidates are scored on videos held out of the training split; the test split takes no part in the choice.

    The probe whose score counts is then trained with the chosen settings on the whole training split.
    """

    space: dict[SweptField, Distribution] = Field(min_length=1, description="Field of optim -> where values come from.")
    searcher: Literal["random", "optuna"] = Field(
        "random",
        description="random: grids crossed with independent draws. optuna: its tree-structured Parzen estimator, which "
        "looks at the scores so far before each round.",
    )
    num_samples: PositiveInt = Field(8, description="Draws of what is no grid (optuna: candidates in all).")
    round: PositiveInt = Field(4, description="Candidates that optuna proposes, and that are trained, together.")
    seed: NonNegativeInt = 0
    holdout: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.1, description="Share of each class's training videos that candidates are scored on."
    )
    halve_every: PositiveInt | None = Field(
        None, description="Epochs after which the worse half of the running candidates stops (successive halving)."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.searcher == "optuna" and any(isinstance(d, Grid) for d in self.space.values()):
            raise ValueError("optuna draws from 'loguniform' and 'choice'; a 'grid' is for the searcher 'random'")
        return self
