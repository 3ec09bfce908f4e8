"""Expected improvement of the hypervolume at known cost, held against sampling and against Optuna's hypervolume."""

import numpy as np
import pytest
from exeunt.searcher.proposals.improvement import expected_improvement, hypervolume, non_dominated
from optuna._hypervolume import compute_hypervolume

REFERENCE = (5.0, 4.0)
FRONT = [(1.0, 3.0), (2.0, 2.0), (3.5, 0.5)]


def test_the_hypervolume_is_optunas():
    random = np.random.default_rng(0)
    for _ in range(20):
        points = random.uniform(0, 6, (12, 2))
        inside = points[(points < REFERENCE).all(axis=1)]
        expected = compute_hypervolume(inside, np.array(REFERENCE)) if len(inside) else 0.0
        assert hypervolume([(a, b) for a, b in points], REFERENCE) == pytest.approx(expected)


def test_dominated_points_are_no_part_of_the_front():
    costs, values = np.array([1.0, 2.0, 2.0, 3.0, 0.5]), np.array([3.0, 2.0, 2.5, 2.0, 3.5])
    assert non_dominated(costs, values) == [4, 0, 1]


@pytest.mark.parametrize("cost", [0.2, 1.0, 1.7, 4.2, 5.5])
@pytest.mark.parametrize("mean", [-1.0, 1.2, 3.5])
def test_it_is_the_mean_gain_of_samples(cost: float, mean: float):
    deviation = 0.8
    draws = np.random.default_rng(1).normal(mean, deviation, 20_000)
    before = hypervolume(FRONT, REFERENCE)
    gains = [hypervolume([*FRONT, (cost, value)], REFERENCE) - before for value in draws]
    found = expected_improvement(FRONT, REFERENCE, np.array([cost]), np.array([mean]), np.array([deviation]))
    assert found[0] == pytest.approx(np.mean(gains), abs=5 * np.std(gains) / np.sqrt(len(draws)) + 1e-9)


def test_a_certain_value_gains_exactly():
    value = expected_improvement(FRONT, REFERENCE, np.array([1.5]), np.array([1.0]), np.array([1e-9]))
    assert value[0] == pytest.approx(hypervolume([*FRONT, (1.5, 1.0)], REFERENCE) - hypervolume(FRONT, REFERENCE))


def test_without_a_front_the_reference_bounds_the_gain():
    found = expected_improvement([], REFERENCE, np.array([2.0]), np.array([1.0]), np.array([1e-9]))
    assert found[0] == pytest.approx((5.0 - 2.0) * (4.0 - 1.0))
