"""Speed-ups and their ratios from timings that a drifting machine disturbs."""

import numpy as np
import pytest
from exeunt.reports.view.interval import Interval, ratio_of_speeds, relative_speed


def timings(seconds: float, full: float, drift: list[float]) -> tuple[list[float], list[float]]:
    """Repeats of a schedule and of the full one beside it, on a machine that slows down in the same way for both."""
    return [seconds * d for d in drift], [full * d for d in drift]


def test_drift_leaves_a_speed_up_alone() -> None:
    found = relative_speed(timings(0.5, 2.0, [1.0, 1.4, 2.0, 1.1, 1.3]), 0.9)
    assert (found.value, found.lower, found.upper) == pytest.approx((4.0, 4.0, 4.0))


def test_two_sittings_on_machines_of_different_speed_compare_through_the_full_schedule() -> None:
    a, b = timings(0.5, 2.0, [1.0] * 6), timings(1.0, 2.0, [3.0] * 6)
    assert ratio_of_speeds(a, b, 0.95).value == pytest.approx(2.0)


def test_schedules_of_the_same_rounds_are_paired_directly() -> None:
    a, b = ([1.0, 2.0, 4.0], [9.0, 9.0, 9.0]), ([2.0, 4.0, 8.0], [7.0, 7.0, 7.0])
    paired = ratio_of_speeds(a, b, 0.95, same_rounds=True)
    assert (paired.value, paired.lower, paired.upper) == pytest.approx((2.0, 2.0, 2.0))


def test_the_full_schedule_is_its_own_neighbour() -> None:
    a, full = timings(0.5, 2.0, [1.0, 1.1, 1.2]), ([2.0] * 9, [2.0] * 9)
    assert ratio_of_speeds(a, full, 0.95) == relative_speed(a, 0.95)


def test_one_repeat_bounds_nothing() -> None:
    found = ratio_of_speeds(([1.0], [2.0]), ([1.0], [3.0]), 0.95)
    assert (found.lower, found.upper) == (0.0, float("inf"))


@pytest.mark.parametrize("same_rounds", [True, False])
def test_95_percent_intervals_of_ratios_hold_the_truth(same_rounds: bool) -> None:
    random, held, trials = np.random.default_rng(0), 0, 300
    for _ in range(trials):
        noise = np.exp(0.05 * random.standard_normal((4, 6)))
        a, b = (1.0 * noise[0], 2.0 * noise[1]), (1.5 * noise[2], 2.0 * noise[3])
        found = ratio_of_speeds((a[0].tolist(), a[1].tolist()), (b[0].tolist(), b[1].tolist()), 0.95, same_rounds)
        held += found.lower <= 1.5 <= found.upper
    assert held >= 0.93 * trials


def test_intervals_move_and_scale() -> None:
    interval = Interval(3.0, 2.0, 5.0)
    assert interval.minus(1.0) == Interval(2.0, 1.0, 4.0)
    assert interval.times(2.0) == Interval(6.0, 4.0, 10.0)
