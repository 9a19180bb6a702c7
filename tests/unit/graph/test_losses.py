"""What lost nodes cost: the size of a checkpoint against a real file, formulas against the simulation."""

from __future__ import annotations

from pathlib import Path

import pytest

from vjepa_exp.graph.fleet import Fleet
from vjepa_exp.graph.losses import best_interval, checkpoint_bytes, extra_share
from vjepa_exp.graph.network import encoder_parameters, predictor_parameters
from vjepa_exp.graph.simulate import Task, simulate
from vjepa_exp.spec.data import ClipSpec, DataSpec, MixtureEntry
from vjepa_exp.spec.masks import PAPER_MASKS
from vjepa_exp.spec.model import ModelSpec, PredictorSpec
from vjepa_exp.spec.pretrain import FeaturesObjective, Objective, PixelsObjective, PretrainSpec
from vjepa_exp.spec.stages import PretrainRecipe
from vjepa_exp.train.checkpoint import STATE_FILE, save_checkpoint
from vjepa_exp.train.pretrain import initial_state
from vjepa_exp.train.pretrain_step import PretrainState

CLIP = ClipSpec(num_frames=4, resolution=64)
SMALL = ModelSpec(arch="vit_tiny", predictor=PredictorSpec(depth=2, embed_dim=96))


def after_a_step(recipe: PretrainRecipe) -> PretrainState:
    """The optimiser has its moments only once it has taken a step."""
    state = initial_state(recipe)
    for parameter in state.model.parameters():
        parameter.grad = parameter.detach().clone()
    state.optimizer.step()
    return state


@pytest.mark.parametrize("objective", [FeaturesObjective(kind="features"), PixelsObjective(kind="pixels")])
def test_the_size_of_a_checkpoint_is_that_of_its_file(objective: Objective, tmp_path: Path) -> None:
    data = DataSpec(mixture=(MixtureEntry(dataset="a"),), clip=CLIP)
    spec = PretrainSpec(data=data, masks=PAPER_MASKS, objective=objective)
    recipe = PretrainRecipe(seed=0, model=SMALL, pretrain=spec, digests={})
    state = after_a_step(recipe)
    save_checkpoint(tmp_path, state, recipe, "order")
    output = 3 * 2 * 16 * 16 if objective.kind == "pixels" else SMALL.encoder.embed_dim
    parameters = encoder_parameters(SMALL) + predictor_parameters(SMALL, len(PAPER_MASKS), output)
    assert checkpoint_bytes(recipe, parameters) == pytest.approx((tmp_path / STATE_FILE).stat().st_size, rel=0.02)


def test_rare_losses_cost_half_an_interval_and_a_restart() -> None:
    rate, interval, restart, write = 1e-7, 3000.0, 400.0, 20.0
    first_order = rate * (interval / 2 + restart) + write / interval
    assert extra_share(rate, interval, restart, write) == pytest.approx(first_order, rel=0.02)
    assert extra_share(0.0, interval, restart, write) == write / interval


def test_a_stage_that_is_lost_before_it_ends_hardly_ever_ends() -> None:
    assert extra_share(1 / 3600, 36_000, 60, 0) > 1000
    assert extra_share(1 / 3600, 360_000_000, 60, 0) < float("inf")


def test_the_best_interval_is_where_least_is_lost() -> None:
    rate, write = 1 / 180_000, 20.0
    best = best_interval(rate, write)
    least = extra_share(rate, best, 300, write)
    assert all(extra_share(rate, best * factor, 300, write) > least for factor in (0.7, 0.8, 1.25, 1.5))


@pytest.mark.parametrize(("interval", "write"), [(600.0, 20.0), (3000.0, 20.0), (3000.0, 300.0)])
def test_the_formula_agrees_with_the_simulation(interval: float, write: float) -> None:
    """Ten runs of a stage that is interrupted some five hundred times in each."""
    rate, work = 1 / 2000, 1e6
    fleet = Fleet(8, 1, 96, start_s=50, stage_start_s=10, interruptions_per_s=rate)
    task = Task("t", 8, 8, work * (1 + write / interval), checkpoint_s=interval + write)
    spans = [simulate([task], fleet, seed).makespan_s for seed in range(10)]
    assert sum(spans) / len(spans) / work - 1 == pytest.approx(extra_share(rate, interval, 60, write), rel=0.06)
