"""Probes: that they learn, count honestly, and do not depend on how their clips arrive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vjepa_exp.spec.augment import CropFlip, NoAugment
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.evaluate import LinearProbe, ProbeOptimSpec
from vjepa_exp.spec.stages import ProbeRecipe
from vjepa_exp.train.batch import Batch
from vjepa_exp.train.checkpoint import save_checkpoint
from vjepa_exp.train.encoders import frozen_encoder
from vjepa_exp.train.hooks import DivergedError
from vjepa_exp.train.joint import ProbeResult
from vjepa_exp.train.loop import StepInfo
from vjepa_exp.train.probe import Resume, train_probes
from vjepa_exp.train.probe_data import Split, num_train_positions
from vjepa_exp.train.probe_step import ProbeState, probe_schedule
from vjepa_exp.train.world import World

NUM_TRAIN, NUM_TEST = 40, 21


def with_probe(recipe: ProbeRecipe, **changes: Any) -> ProbeRecipe:
    return recipe.model_copy(update={"probe": recipe.probe.model_copy(update=changes)})


def run(
    recipe: ProbeRecipe,
    clips: Any,
    *,
    size: int = 8,
    bad_train: tuple[int, ...] = (),
    bad_test: tuple[int, ...] = (),
    test: Iterator[Batch] | None = None,
    hooks: Any = (),
) -> ProbeResult:
    """Train on 40 videos of four classes and test on 21 others, in batches of `size`."""
    (result,) = run_all([recipe], clips, size=size, bad_train=bad_train, bad_test=bad_test, test=test, hooks=[hooks])
    assert isinstance(result, ProbeResult)
    return result


def run_all(
    recipes: list[ProbeRecipe],
    clips: Any,
    *,
    size: int = 8,
    bad_train: tuple[int, ...] = (),
    bad_test: tuple[int, ...] = (),
    test: Iterator[Batch] | None = None,
    hooks: Any = None,
    first: int = 0,
    **options: Any,
) -> list[ProbeResult | UserError]:
    """Train on the same batches."""
    spec, model = recipes[0].probe, recipes[0].model
    positions, kept = num_train_positions(spec, model, NUM_TRAIN), isinstance(spec.augment, NoAugment)
    train = clips(1, num_videos=NUM_TRAIN, bad=bad_train, views=spec.clips).batches(
        0 if kept else first * size, positions, size
    )
    test = test or clips(2, bad=bad_test, views=spec.clips * spec.views).batches(0, NUM_TEST, size)
    encoder = frozen_encoder(recipes[0], None)
    splits = Split(train, NUM_TRAIN), Split(test, NUM_TEST)
    return train_probes(recipes, World(), encoder, *splits, 4, hooks=hooks, first=first, **options)


def test_learns_separable_classes_and_says_so_after_each_epoch(probe_recipe: ProbeRecipe, clips: Any) -> None:
    infos: list[StepInfo[ProbeState]] = []
    result = run(probe_recipe, clips, hooks=[infos.append])
    assert result.metrics["top1"] > 90
    assert result.metrics["n"] == NUM_TEST
    assert result.metrics["chance"] == 100 * 6 / NUM_TEST  # 21 videos of four classes in turn
    assert [point["epoch"] for point in result.curve] == list(range(1, 9))
    assert [i.step for i in infos if i.evaluation] == [5, 10, 15, 20, 25, 30, 35, 40]
    assert infos[-1].evaluation["top1"] == result.metrics["top1"]
    assert result.curve[0]["test_loss"] > result.curve[-1]["test_loss"]


def test_linear_probe_learns_too(probe_recipe: ProbeRecipe, clips: Any) -> None:
    settings = probe_recipe.probe.model_dump(exclude={"kind", "depth", "optim"})
    optim = ProbeOptimSpec(batch_size=8, epochs=8, lr=3e-2)
    linear = LinearProbe.model_validate({**settings, "kind": "linear_probe", "optim": optim})
    assert run(probe_recipe.model_copy(update={"probe": linear}), clips).metrics["top1"] > 90


def test_unreadable_videos_are_counted_and_never_replaced(probe_recipe: ProbeRecipe, clips: Any) -> None:
    result = run(probe_recipe, clips, bad_train=(3, 4), bad_test=(0, 20))
    assert result.metrics["n"] == result.coverage.covered == NUM_TEST - 2
    assert result.coverage.total == NUM_TEST
    assert [(one.path, one.reason) for one in result.coverage.unreadable] == [
        ("0.mp4", "truncated"),
        ("20.mp4", "truncated"),
    ]
    assert result.train_coverage.covered == NUM_TRAIN - 2


def test_kept_features_make_the_result_independent_of_how_clips_are_cut(probe_recipe: ProbeRecipe, clips: Any) -> None:
    whole, in_fives = run(probe_recipe, clips, size=40), run(probe_recipe, clips, size=5)
    assert whole.metrics == pytest.approx(in_fives.metrics, rel=1e-4)


@pytest.mark.parametrize("bad", [(), (2, 9)])
def test_augmented_clips_are_encoded_as_they_come(probe_recipe: ProbeRecipe, clips: Any, bad: tuple[int, ...]) -> None:
    recipe = with_probe(probe_recipe, augment=CropFlip())
    assert num_train_positions(recipe.probe, recipe.model, NUM_TRAIN) == 8 * NUM_TRAIN
    result = run(recipe, clips, bad_train=bad)
    assert result.metrics["top1"] > 90
    assert [one.path for one in result.train_coverage.unreadable] == [f"{video}.mp4" for video in bad]


def test_segments_and_views_of_a_video_are_one_prediction(probe_recipe: ProbeRecipe, clips: Any) -> None:
    result = run(with_probe(probe_recipe, clips=2, views=3), clips)
    assert result.metrics["n"] == NUM_TEST
    assert result.metrics["top1"] > 90


@pytest.mark.parametrize("positions", [range(20), [*range(20), 19]], ids=["missing", "repeated"])
def test_a_test_that_is_not_every_video_once_is_an_error(probe_recipe: ProbeRecipe, clips: Any, positions: Any) -> None:
    batches = (clips(2).load([position]) for position in positions)
    with pytest.raises(RuntimeError, match="of 21"):
        run(probe_recipe, clips, test=batches)


def test_nothing_readable_is_one_clear_line(probe_recipe: ProbeRecipe, clips: Any) -> None:
    with pytest.raises(UserError, match="no training video of toy"):
        run(probe_recipe, clips, bad_train=tuple(range(NUM_TRAIN)))
    with pytest.raises(UserError, match="no test video"):
        run(probe_recipe, clips, bad_test=tuple(range(NUM_TEST)))


def test_fewer_videos_than_a_batch_still_train(probe_recipe: ProbeRecipe, clips: Any) -> None:
    recipe = with_probe(probe_recipe, optim=ProbeOptimSpec(batch_size=64, epochs=40, lr=3e-3))
    assert run(recipe, clips).metrics["top1"] > 90


def test_few_videos_are_not_tested_on_many_after_every_epoch(probe_recipe: ProbeRecipe, clips: Any) -> None:
    few, views = clips(1, num_videos=8).batches(0, 8, 8), clips(2, views=3).batches(0, NUM_TEST, 8)
    recipe = with_probe(probe_recipe, views=3)  # 63 views are tested, 24 passes are those of an epoch
    encoder = frozen_encoder(recipe, None)
    (result,) = train_probes([recipe], World(), encoder, Split(few, 8), Split(views, NUM_TEST), 4)
    assert isinstance(result, ProbeResult)
    assert [point["epoch"] for point in result.curve] == [3, 6, 8]


def test_bf16_probe_agrees_with_fp32(probe_recipe: ProbeRecipe, clips: Any) -> None:
    exact, rounded = run(probe_recipe, clips), run(with_probe(probe_recipe, precision="bf16"), clips)
    assert rounded.metrics["test_loss"] == pytest.approx(exact.metrics["test_loss"], rel=0.1)


def test_schedule_is_a_cosine_that_ends_at_the_last_step() -> None:
    optim = ProbeOptimSpec(epochs=4, lr=1e-3, weight_decay=0.01)
    assert probe_schedule(optim, 20, 10) == pytest.approx((5e-4, (0.01 + 1e-6) / 2))
    assert probe_schedule(optim, 40, 10) == pytest.approx((0.0, 1e-6))
    warm = optim.model_copy(update={"warmup_epochs": 1})
    rates = [probe_schedule(warm, step, 10)[0] for step in (5, 10, 25, 40)]
    assert rates == pytest.approx([5e-4, 1e-3, 5e-4, 0.0])


def test_features_are_read_only_frames_left_untouched(probe_recipe: ProbeRecipe, clips: Any) -> None:
    batch = dict(clips(2).load(range(NUM_TEST)))
    for column in batch.values():
        column.flags.writeable = False
    before = batch["clips"].copy()
    run(probe_recipe, clips, test=iter([batch]))
    assert np.array_equal(batch["clips"], before)


def test_the_encoder_is_not_trained(probe_recipe: ProbeRecipe, clips: Any) -> None:
    encoder = frozen_encoder(probe_recipe, None)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    train, test = clips(1).batches(0, NUM_TRAIN, 8), clips(2).batches(0, NUM_TEST, 8)
    train_probes([probe_recipe], World(), encoder, Split(train, NUM_TRAIN), Split(test, NUM_TEST), 4)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


@pytest.mark.parametrize("augment", [NoAugment(), CropFlip()], ids=["kept", "streamed"])
def test_probes_trained_together_end_where_each_ends_alone(
    probe_recipe: ProbeRecipe, clips: Any, augment: NoAugment | CropFlip
) -> None:
    base = with_probe(probe_recipe, augment=augment)
    optims = [base.probe.optim.model_copy(update={"lr": lr}) for lr in (3e-3, 1e-3, 1e-4)]
    linear = LinearProbe.model_validate({**base.probe.model_dump(exclude={"depth"}), "kind": "linear_probe"})
    recipes = [*(with_probe(base, optim=optim) for optim in optims), base.model_copy(update={"probe": linear})]
    together = run_all(recipes, clips)
    for recipe, result in zip(recipes, together, strict=True):
        alone = run(recipe, clips)
        assert isinstance(result, ProbeResult)
        assert result.metrics == alone.metrics
        assert result.curve == alone.curve
        assert all(torch.equal(value, alone.probe.state_dict()[k]) for k, value in result.probe.state_dict().items())


def test_a_probe_that_ends_early_does_not_stop_the_others(probe_recipe: ProbeRecipe, clips: Any) -> None:
    def diverge(info: StepInfo[ProbeState]) -> None:
        if info.step == 7:
            raise DivergedError("training diverged")

    ended, result = run_all([probe_recipe, probe_recipe], clips, hooks=[[diverge], []])
    assert isinstance(ended, DivergedError)
    assert isinstance(result, ProbeResult)
    assert result.metrics == run(probe_recipe, clips).metrics


def test_what_is_no_divergence_ends_all_probes(probe_recipe: ProbeRecipe, clips: Any) -> None:
    def full(info: StepInfo[ProbeState]) -> None:
        raise UserError("checkpoint cannot be written: No space left on device")  # one worker alone meets it

    with pytest.raises(UserError, match="No space left"):
        run_all([probe_recipe, probe_recipe], clips, hooks=[[full], []])


class _Killed(Exception):  # noqa: N818 (no error)
    """The workers are gone."""


@pytest.mark.parametrize("augment", [NoAugment(), CropFlip()], ids=["kept", "streamed"])
@pytest.mark.parametrize(("before_last", "killed"), [((3, 2), 1), ((5, 1), 0), ((20, None), 15)])
def test_probes_go_on_from_their_checkpoints_bit_for_bit(
    probe_recipe: ProbeRecipe,
    clips: Any,
    augment: NoAugment | CropFlip,
    before_last: tuple[int, int | None],
    killed: int,
    tmp_path: Path,
) -> None:
    base = with_probe(probe_recipe, augment=augment)
    recipes = [with_probe(base, optim=base.probe.optim.model_copy(update={"lr": lr})) for lr in (3e-3, 1e-3)]
    bad = (2, 9)  # which the last epoch of a stream meets before the first checkpoint
    last = 8 * 5 if augment.kind == "crop_flip" else 8 * 4  # kept features have no unreadable videos
    saved = [step and last - step for step in before_last]
    folders = [tmp_path / str(number) if step else None for number, step in enumerate(saved)]

    def until_killed(number: int) -> list[Any]:
        def hook(info: StepInfo[ProbeState]) -> None:
            folder = folders[number]
            if folder and info.step == saved[number]:
                save_checkpoint(folder, info.state, recipes[number], "order")
            if info.step == last - killed:
                raise _Killed

        return [hook]

    with pytest.raises(_Killed):
        run_all(recipes, clips, bad_train=bad, hooks=[until_killed(0), until_killed(1)])
    steps: list[list[int]] = [[], []]
    hooks = [[lambda info, mine=mine: mine.append(info.step)] for mine in steps]
    first = min(step or 0 for step in saved)
    again = run_all(recipes, clips, bad_train=bad, first=first, resume=Resume(folders, "order"), hooks=hooks)
    assert steps == [list(range((step or 0) + 1, last + 1)) for step in saved]
    for result, unbroken in zip(again, run_all(recipes, clips, bad_train=bad), strict=True):
        assert isinstance(result, ProbeResult)
        assert isinstance(unbroken, ProbeResult)
        weights = unbroken.probe.state_dict()
        assert all(torch.equal(value, weights[name]) for name, value in result.probe.state_dict().items())
        assert (result.metrics, result.curve) == (unbroken.metrics, unbroken.curve)
        assert result.train_coverage == unbroken.train_coverage
        assert [one.path for one in result.train_coverage.unreadable] == ["2.mp4", "9.mp4"]


def test_a_probe_does_not_go_on_with_other_videos(probe_recipe: ProbeRecipe, clips: Any, tmp_path: Path) -> None:
    def save(info: StepInfo[ProbeState]) -> None:
        if info.step == 39:
            save_checkpoint(tmp_path, info.state, probe_recipe, "order")

    run(probe_recipe, clips, hooks=[save])
    with pytest.raises(UserError, match="the data sets have changed"):
        run_all([probe_recipe], clips, first=39, resume=Resume([tmp_path], "other"))


def test_a_probe_does_not_go_on_with_the_kept_features_of_other_videos(
    probe_recipe: ProbeRecipe, clips: Any, tmp_path: Path
) -> None:
    def save(info: StepInfo[ProbeState]) -> None:
        if info.step == 9:
            save_checkpoint(tmp_path, info.state, probe_recipe, "order")

    run_all([probe_recipe], clips, hooks=[[save]])
    with pytest.raises(UserError, match=r"does not fit: 40 of 40 videos .* could be read .*, 38 of 40 .* delete the"):
        run_all([probe_recipe], clips, bad_train=(2, 9), first=9, resume=Resume([tmp_path], "order"))


def test_a_checkpoint_of_an_earlier_version_is_one_line(probe_recipe: ProbeRecipe, clips: Any, tmp_path: Path) -> None:
    def save(info: StepInfo[ProbeState]) -> None:
        if info.step == 9:
            save_checkpoint(tmp_path, info.state, probe_recipe, "order")

    run_all([probe_recipe], clips, hooks=[[save]])
    content = torch.load(tmp_path / "state.pt", weights_only=True)
    del content["state"]["readable"]
    torch.save(content, tmp_path / "state.pt")
    with pytest.raises(UserError, match="lacks 'readable': another version wrote it, delete the folder"):
        run_all([probe_recipe], clips, first=9, resume=Resume([tmp_path], "order"))
