"""A sweep of a probe's settings: what is chosen, by what, and that the result is that of the plain probe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vjepa_exp.spec.augment import CropFlip
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.stages import ProbeRecipe
from vjepa_exp.spec.sweep import ProbeSweep
from vjepa_exp.train.checkpoint import load_checkpoint, save_checkpoint
from vjepa_exp.train.encoders import frozen_encoder
from vjepa_exp.train.hooks import DivergedError
from vjepa_exp.train.joint import ProbeResult
from vjepa_exp.train.probe import train_probes
from vjepa_exp.train.probe_data import Split, num_train_positions
from vjepa_exp.train.searcher import Candidate, searcher
from vjepa_exp.train.sweep import SweepResult, SweepState, sweep_probe
from vjepa_exp.train.sweep_passes import SweepData, with_settings
from vjepa_exp.train.world import World

NUM_TRAIN, NUM_FIT, NUM_TEST = 40, 32, 21
RATES = {"lr": {"kind": "grid", "values": [1e-7, 3e-3, 1e-6, 1e-4]}}


def swept(recipe: ProbeRecipe, *, streamed: bool = False, **sweep: Any) -> ProbeRecipe:
    spec = ProbeSweep.model_validate_json(
        ProbeSweep.model_validate({"space": RATES} | sweep, strict=False).model_dump_json()
    )
    changes: dict[str, Any] = {"sweep": spec} | ({"augment": CropFlip()} if streamed else {})
    return recipe.model_copy(update={"probe": recipe.probe.model_copy(update=changes)})


def positions(recipe: ProbeRecipe, num_videos: int) -> int:
    return num_train_positions(recipe.probe, recipe.model, num_videos)


def videos(recipe: ProbeRecipe, clips: Any, test_seed: int = 2) -> SweepData:
    """Of 40 training videos every fifth is held out, of which the last class is spared nothing."""

    def split(seed: int, count: int, trains: bool, first: int = 0) -> Split:
        last = positions(recipe, count) if trains else count
        return Split(clips(seed, num_videos=count).batches(first * 8, last, 8), count)

    return SweepData(
        train=lambda first: split(1, NUM_TRAIN, True, first),
        fit=lambda first: split(1, NUM_FIT, True, first),
        held_out=lambda: split(5, NUM_TRAIN - NUM_FIT, False),
        is_held_out=lambda p: p >= NUM_FIT,
        test=lambda: split(test_seed, NUM_TEST, False),
    )


def run(
    recipe: ProbeRecipe, clips: Any, *, test_seed: int = 2, at_most: int = 8, hooks: Any = None, **more: Any
) -> SweepResult:
    more |= {} if hooks is None else {"candidate_hooks": hooks}
    data = videos(recipe, clips, test_seed)
    return sweep_probe(recipe, World(), frozen_encoder(recipe, None), data, 4, at_most=at_most, **more)


def plain(recipe: ProbeRecipe, clips: Any) -> ProbeResult:
    train = Split(clips(1, num_videos=NUM_TRAIN).batches(0, positions(recipe, NUM_TRAIN), 8), NUM_TRAIN)
    test = Split(clips(2, num_videos=NUM_TEST).batches(0, NUM_TEST, 8), NUM_TEST)
    (result,) = train_probes([recipe], World(), frozen_encoder(recipe, None), train, test, 4)
    assert isinstance(result, ProbeResult)
    return result


@pytest.mark.parametrize("streamed", [False, True])
def test_the_result_is_that_of_the_plain_probe_with_the_chosen_settings(
    probe_recipe: ProbeRecipe, clips: Any, streamed: bool
) -> None:
    recipe = swept(probe_recipe, streamed=streamed)
    result = run(recipe, clips)
    assert result.chosen.settings == {"lr": 3e-3}
    assert result.num_held_out == NUM_TRAIN - NUM_FIT
    alone = plain(with_settings(recipe, {"lr": 3e-3}), clips)
    assert result.probe.metrics == alone.metrics
    for name, weight in alone.probe.state_dict().items():
        assert torch.equal(result.probe.probe.state_dict()[name], weight)


def test_the_test_split_takes_no_part_in_the_choice(probe_recipe: ProbeRecipe, clips: Any) -> None:
    one, other = (run(swept(probe_recipe), clips, test_seed=seed) for seed in (2, 9))
    assert one.tried == other.tried
    assert one.probe.metrics["test_loss"] != other.probe.metrics["test_loss"]


def test_candidates_in_smaller_rounds_are_the_same(probe_recipe: ProbeRecipe, clips: Any) -> None:
    assert run(swept(probe_recipe), clips, at_most=1).tried == run(swept(probe_recipe), clips).tried


def test_halving_stops_the_worse_half(probe_recipe: ProbeRecipe, clips: Any) -> None:
    result = run(swept(probe_recipe, halve_every=2), clips)
    assert sorted(candidate.epochs for candidate in result.tried) == [2, 2, 4, 8]
    assert result.chosen.epochs == 8
    stopped = [candidate.settings["lr"] for candidate in result.tried if candidate.epochs == 2]
    assert 3e-3 not in stopped


def test_a_candidate_that_diverges_does_not_end_the_sweep(probe_recipe: ProbeRecipe, clips: Any) -> None:
    def diverges(info: Any) -> None:
        raise DivergedError("training diverged")

    result = run(swept(probe_recipe), clips, hooks=lambda number: [diverges] if number == 1 else [])
    assert [candidate.error for candidate in result.tried] == ["", "training diverged", "", ""]
    assert result.chosen.settings != {"lr": 3e-3}
    with pytest.raises(UserError, match="no candidate of the sweep got a score; the first one: training diverged"):
        run(swept(probe_recipe), clips, hooks=lambda number: [diverges])


def test_no_stream_is_left_open_when_all_its_candidates_have_ended(probe_recipe: ProbeRecipe, clips: Any) -> None:
    """Its decoders would keep the next one waiting."""
    recipe = swept(probe_recipe, streamed=True)
    data, begun, ended = videos(recipe, clips), list[int](), list[int]()

    def fit(first: int) -> Split:
        assert begun == ended
        whole = data.fit(first)

        def watched() -> Iterator[Any]:
            number = len(begun)
            begun.append(number)
            try:
                yield from whole.batches
            finally:
                ended.append(number)

        return Split(watched(), whole.num_videos)

    def train(first: int) -> Split:
        assert begun == ended
        return data.train(first)

    def early(number: int) -> Sequence[Any]:
        return [] if begun else at_step_three(0)  # all of the first round

    watched = replace(data, fit=fit, train=train)
    encoder = frozen_encoder(recipe, None)
    result = sweep_probe(recipe, World(), encoder, watched, 4, at_most=2, candidate_hooks=early)
    assert [candidate.error for candidate in result.tried] == ["training diverged", "training diverged", "", ""]
    assert begun == [0, 1]


class LostError(Exception):
    pass


def at_step_three(number: int) -> Sequence[Any]:
    """The first candidate of a round diverges."""

    def diverges(info: Any) -> None:
        if info.step == 3:
            raise DivergedError("training diverged")

    return [diverges] if number == 0 else []


OPTUNA = {
    "space": {"lr": {"kind": "loguniform", "low": 1e-6, "high": 1e-2}},
    "searcher": "optuna",
    "num_samples": 4,
    "round": 2,
}


@pytest.mark.parametrize(
    "sweep",
    [{}, {"streamed": True}, {"halve_every": 2}, {"halve_every": 2, "hooks": at_step_three}, OPTUNA],
    ids=["kept", "streamed", "halving", "diverging", "optuna"],
)
def test_a_sweep_that_is_lost_goes_on_with_the_same_bits(
    probe_recipe: ProbeRecipe, clips: Any, tmp_path: Path, sweep: dict[str, Any]
) -> None:
    """It is saved after every step and lost after every thirteenth: in both rounds, and after them."""
    more = {"hooks": sweep.pop("hooks")} if "hooks" in sweep else {}
    recipe = swept(probe_recipe, **sweep)
    at_most = 4 if "halve_every" in sweep else 2
    steps = list[tuple[int, int]]()
    unbroken = run(
        recipe, clips, at_most=at_most, after_step=lambda state: steps.append((len(state.tried), state.step)), **more
    )
    done = list[tuple[int, int]]()

    def after_step(state: SweepState) -> None:
        done.append((len(state.tried), state.step))
        save_checkpoint(tmp_path, state, recipe, "order")
        if len(done) % 13 == 0:
            raise LostError

    while True:
        state = SweepState()
        if done:
            load_checkpoint(tmp_path, state, recipe, "order")
        try:
            result = run(recipe, clips, at_most=at_most, state=state, after_step=after_step, **more)
            break
        except LostError:
            continue
    assert len(done) > 39
    assert done == steps
    assert result.tried == unbroken.tried
    assert result.probe.metrics == unbroken.probe.metrics
    assert result.probe.curve == unbroken.probe.curve
    for name, weight in unbroken.probe.probe.state_dict().items():
        assert torch.equal(result.probe.probe.state_dict()[name], weight)


def test_a_checkpoint_of_other_readable_videos_is_one_clear_line(
    probe_recipe: ProbeRecipe, clips: Any, tmp_path: Path
) -> None:
    recipe, state = swept(probe_recipe), SweepState()

    def lose(state: SweepState) -> None:
        save_checkpoint(tmp_path, state, recipe, "order")
        raise LostError

    with pytest.raises(LostError):
        run(recipe, clips, after_step=lose)
    load_checkpoint(tmp_path, state, recipe, "order")
    with pytest.raises(UserError, match=r"checkpoint does not fit: .* could be read when it was written"):
        run(recipe, lambda seed, **more: clips(seed, bad={3}, **more), state=state)


def test_a_checkpoint_of_other_candidates_is_one_clear_line(probe_recipe: ProbeRecipe, clips: Any) -> None:
    state = SweepState("checkpoint X")
    state.over([Candidate({"lr": 0.5}), Candidate({"lr": 1e-7})])
    with pytest.raises(UserError, match="checkpoint X holds other candidates than this version tries"):
        run(swept(probe_recipe), clips, state=state, at_most=2)


def test_an_empty_side_is_one_clear_line(probe_recipe: ProbeRecipe, clips: Any) -> None:
    recipe = swept(probe_recipe)
    split = Split(clips(1, num_videos=NUM_TRAIN).batches(0, NUM_TRAIN, 8), NUM_TRAIN)
    data = SweepData(*(lambda first: split,) * 2, lambda: split, lambda p: np.zeros(len(p), bool), lambda: split)
    with pytest.raises(UserError, match="leaves no readable video of toy"):
        sweep_probe(recipe, World(), frozen_encoder(recipe, None), data, 4, at_most=8)


def optuna_sweep(seed: int = 0) -> ProbeSweep:
    space = {
        "lr": {"kind": "loguniform", "low": 1e-6, "high": 1e-1},
        "weight_decay": {"kind": "choice", "values": [0.0, 0.1]},
    }
    settings = {"space": space, "searcher": "optuna", "num_samples": 18, "round": 6, "seed": seed}
    return ProbeSweep.model_validate(settings, strict=False)


def searched(sweep: ProbeSweep, best: float) -> list[Candidate]:
    """All that a searcher proposes when the score falls with the distance from a learning rate, in factors of ten."""
    search, tried = searcher(sweep, 100), list[Candidate]()
    for settings in search.rounds():
        found = [Candidate(one, 1, 100 - 20 * abs(np.log10(one["lr"] / best)), 1.0) for one in settings]
        search.tell(found)
        tried += found
    return tried


def test_optuna_is_repeatable_and_goes_where_scores_are_high() -> None:
    tried = searched(optuna_sweep(), best=1e-3)
    assert len(tried) == 18
    assert tried == searched(optuna_sweep(), best=1e-3)
    assert tried != searched(optuna_sweep(seed=1), best=1e-3)
    other = searched(optuna_sweep(), best=1e-5)
    assert [c.settings for c in tried[:6]] == [c.settings for c in other[:6]]  # nothing was known yet
    gains = []
    for seed in range(6):
        scores = [candidate.top1 for candidate in searched(optuna_sweep(seed), best=1e-5)]
        gains.append(np.mean(scores[-6:]) - np.mean(scores[:6]))
    assert np.mean(gains) > 5  # independent draws gain nothing


def test_optuna_goes_on_where_candidates_failed() -> None:
    search = searcher(optuna_sweep(), 100)
    rounds = search.rounds()
    search.tell([Candidate(settings, error="diverged") for settings in next(rounds)])
    assert len(next(rounds)) == 6
