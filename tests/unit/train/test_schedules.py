import pytest

from vjepa_exp.spec.pretrain import OptimSpec
from vjepa_exp.train.schedules import schedule_at

PAPER = OptimSpec()


@pytest.mark.parametrize(
    ("step", "lr", "weight_decay", "momentum"),
    [
        (1, 2.000354e-4, 0.040000, 0.998),
        (12_000, 6.25e-4, 0.050012, 0.99821332),
        (45_000, 4.732039e-4, 0.164377, 0.99879998),
        (90_000, 7.504222e-5, 0.365623, 0.99959998),
    ],
)
def test_values_of_the_released_runs(step: int, lr: float, weight_decay: float, momentum: float) -> None:
    ours = schedule_at(PAPER, step)
    assert ours.lr == pytest.approx(lr, rel=1e-6)
    assert ours.weight_decay == pytest.approx(weight_decay, abs=1e-6)
    assert ours.momentum == pytest.approx(momentum, abs=1e-8)


def test_an_unstretched_schedule_ends_at_its_final_values() -> None:
    spec = OptimSpec(iterations=1000, warmup=100, schedule_scale=1.0)
    last = schedule_at(spec, 1000)
    assert last.lr == pytest.approx(spec.final_lr)
    assert last.weight_decay == pytest.approx(spec.final_weight_decay)
    assert schedule_at(spec, 1001).momentum == pytest.approx(spec.final_ema)


def test_the_rate_rises_to_its_peak_at_the_end_of_the_warm_up_and_falls_after() -> None:
    spec = OptimSpec(iterations=50, warmup=10)
    rates = [schedule_at(spec, step).lr for step in range(1, 51)]
    assert rates[9] == spec.lr == max(rates)
    assert rates[:10] == sorted(rates[:10])
    assert rates[9:] == sorted(rates[9:], reverse=True)


def test_without_warm_up_the_first_step_is_almost_at_the_peak() -> None:
    spec = OptimSpec(iterations=1000, warmup=0)
    assert schedule_at(spec, 1).lr == pytest.approx(spec.lr, rel=1e-5)


def test_a_fractional_length_is_rounded_down_for_the_cosines_and_kept_for_the_momentum() -> None:
    spec = OptimSpec(iterations=15, warmup=3)  # 1.25 * 15 = 18.75
    assert schedule_at(spec, 18).weight_decay == pytest.approx(spec.final_weight_decay)
    assert schedule_at(spec, 2).momentum - spec.ema == pytest.approx(0.002 / 18.75)
