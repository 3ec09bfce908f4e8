"""Expected improvement of the hypervolume at known cost, held against an integral over Optuna's hypervolume."""

from collections.abc import Callable

import numpy as np
import pytest
from exeunt.searcher.proposals.improvement import expected_improvement
from optuna._hypervolume import compute_hypervolume
from scipy.stats import norm

REFERENCE = (5.0, 4.0)
FRONT = [(1.0, 3.0), (2.0, 2.0), (3.5, 0.5)]


def hypervolume(points: list[tuple[float, float]]) -> float:
    """Optuna's, within the reference."""
    inside = [point for point in points if point[0] < REFERENCE[0] and point[1] < REFERENCE[1]]
    return compute_hypervolume(np.array(inside), np.array(REFERENCE)) if inside else 0.0


def mean_over(mean: float, deviation: float, gain: Callable[[float], float]) -> float:
    """The mean of what a normally distributed value gains, by the trapezoidal rule."""
    values = np.linspace(mean - 8 * deviation, mean + 8 * deviation, 801)
    density = norm.pdf(values, mean, deviation)
    return float(np.trapezoid([gain(value) for value in values] * density, values))


@pytest.mark.parametrize("cost", [0.2, 1.0, 1.7, 4.2, 5.5])
@pytest.mark.parametrize("mean", [-1.0, 1.2, 3.5])
def test_it_is_the_mean_gain(cost: float, mean: float):
    deviation = 0.8
    before = hypervolume(FRONT)
    wanted = mean_over(mean, deviation, lambda value: hypervolume([*FRONT, (cost, value)]) - before)
    found = expected_improvement(FRONT, REFERENCE, np.array([cost]), np.array([mean]), np.array([deviation]))
    assert found[0] == pytest.approx(wanted, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("best", [0.5, 1.0, 2.5])
def test_values_beyond_the_best_gain_no_more(best: float):
    front = [(cost, max(value, best)) for cost, value in FRONT]
    before = hypervolume(front)
    wanted = mean_over(0.8, 1.0, lambda value: hypervolume([*front, (0.7, max(value, best))]) - before)
    found = expected_improvement(FRONT, REFERENCE, np.array([0.7]), np.array([0.8]), np.array([1.0]), best)
    assert found[0] == pytest.approx(wanted, rel=1e-3, abs=1e-6)


def test_what_costs_more_than_the_best_there_is_gains_nothing():
    found = expected_improvement([(1.0, 0.4)], REFERENCE, np.array([2.0]), np.array([0.4]), np.array([0.5]), 0.4)
    assert found[0] == 0.0


def test_a_certain_value_gains_exactly():
    value = expected_improvement(FRONT, REFERENCE, np.array([1.5]), np.array([1.0]), np.array([1e-9]))
    assert value[0] == pytest.approx(hypervolume([*FRONT, (1.5, 1.0)]) - hypervolume(FRONT))


def test_without_a_front_the_reference_bounds_the_gain():
    found = expected_improvement([], REFERENCE, np.array([2.0]), np.array([1.0]), np.array([1e-9]))
    assert found[0] == pytest.approx((5.0 - 2.0) * (4.0 - 1.0))
