"""What `benchmarks/ranks.py` says of orders of schedules, against SciPy."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import stats

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("ranks_order")


def test_kendall_of_resampled_schedules(order: ModuleType) -> None:
    generator = np.random.default_rng(0)
    truth = generator.standard_normal(20)
    values = truth + generator.standard_normal(20)
    weights = np.vstack([np.ones(20), generator.multinomial(20, np.full(20, 0.05), size=3)])
    rows = [np.repeat(np.arange(20), each.astype(int)) for each in weights]
    expected = [stats.kendalltau(values[each], truth[each]).statistic for each in rows]
    np.testing.assert_allclose(order.kendall(values, truth, weights), expected, rtol=1e-12)


def test_a_better_metric_is_told_from_a_worse_one(order: ModuleType) -> None:
    generator = np.random.default_rng(1)
    truth = generator.standard_normal(40)
    good = truth + 0.1 * generator.standard_normal((2, 40))
    bad = truth + 2.0 * generator.standard_normal((2, 40))
    found = order.agreements({"good": good, "bad": bad}, truth, "good")
    assert found["good"].behind == (0.0, 0.0, 0.0)
    assert found["bad"].behind[1] > 0
    assert 0 < found["good"].error < found["bad"].error


def test_the_front_at_each_cost(order: ModuleType) -> None:
    losses = np.array([0.0, 0.3, 0.1, 0.2])
    np.testing.assert_array_equal(order.front_losses([9, 1, 5, 5], losses), [0.0, 0.3, 0.1, 0.1])
