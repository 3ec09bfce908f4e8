"""The ratio of neighbours in time, held against SciPy's distributions and by its coverage."""

import math

import numpy as np
import pytest
from exeunt.backends.timing.samples import paired_ratio
from scipy.stats import binom, quantile_test, ttest_1samp


def pairs(n: int, seed: int, deviation: float = 0.02) -> tuple[list[float], list[float]]:
    """Seconds of a baseline 1.3 × as slow as what stands beside it; a slow drift common to both."""
    random = np.random.default_rng(seed)
    drift = 1 + 0.3 * np.sin(np.arange(n) + seed)
    baseline, own = (drift * random.lognormal(0, deviation, n) for _ in range(2))
    return list(1.3 * baseline), list(own)


@pytest.mark.parametrize("n", [6, 8, 11, 20, 40])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_many_pairs_have_the_binomial_interval_of_the_median(n: int, level: float) -> None:
    baseline, own = pairs(n, seed=n)
    found, ratios = paired_ratio(baseline, own, level), np.sort(np.array(baseline) / np.array(own))
    cut = max(k for k in range(n // 2) if 2 * binom.cdf(k, n, 0.5) <= 1 - level)
    assert found.value == pytest.approx(np.median(ratios))
    assert (found.lower, found.upper) == (ratios[cut], ratios[n - 1 - cut])
    # SciPy may divide what is missed unevenly between its two tails; ours cuts off as many pairs at either end.
    scipys = quantile_test(ratios).confidence_interval(level)
    assert found.lower <= scipys.low
    assert found.upper >= scipys.high


@pytest.mark.parametrize("n", [2, 3, 4])
def test_few_pairs_have_students_interval_or_the_range(n: int) -> None:
    baseline, own = pairs(n, seed=n)
    found = paired_ratio(baseline, own)
    logs = np.log(baseline) - np.log(own)
    student = ttest_1samp(logs, 0.0).confidence_interval(0.9)
    assert found.lower == pytest.approx(min(math.exp(student.low), math.exp(logs.min())))
    assert found.upper == pytest.approx(max(math.exp(student.high), math.exp(logs.max())))


@pytest.mark.parametrize("n", [2, 3, 4, 5, 7, 8, 15])
def test_the_interval_covers_the_true_ratio_as_often_as_it_says(n: int) -> None:
    found = [paired_ratio(*pairs(n, seed)) for seed in range(1000)]
    covered = sum(ratio.lower <= 1.3 <= ratio.upper for ratio in found) / len(found)
    assert covered >= 0.88  # 90 %, less two standard errors of a thousand draws


def test_a_machine_that_slows_down_changes_nothing() -> None:
    found = paired_ratio([2.0, 4.0, 8.0, 2.0, 6.0], [1.0, 2.0, 4.0, 1.0, 3.0])
    assert (found.value, found.lower, found.upper) == (2.0, 2.0, 2.0)


def test_one_disturbed_pair_does_not_move_the_value() -> None:
    assert paired_ratio([2.0] * 5, [1.0, 1.0, 1.0, 1.0, 40.0]).value == 2.0


def test_one_pair_says_nothing_about_its_error() -> None:
    found = paired_ratio([3.0], [2.0])
    assert (found.value, found.lower, found.upper) == (1.5, 0.0, math.inf)
