"""Intervals: arithmetic against SciPy, and coverage in the benchmark's fast mode."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from exeunt.backends.quality import distances, intervals
from exeunt.backends.quality.intervals import Distance, Floor
from scipy import stats

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "interval_coverage.py"


def mean_of(values: np.ndarray) -> Distance:
    """A mean as a distance: everything about it is in textbooks."""
    left_out = (values.sum() - values) / (len(values) - 1)
    return Distance.from_left_out(float(values.mean()), left_out, np.zeros((0, len(values))))


@pytest.fixture(scope="module")
def two() -> tuple[Distance, Distance]:
    """Distances of two schedules on the same noises."""
    generator = np.random.default_rng(0)
    noise = generator.standard_normal((60, 16))
    root = distances.ReferenceRoot.of(np.zeros(16), np.eye(16))
    return distances.frechet(noise * 1.2, root), distances.frechet(noise * 1.15 + 0.05, root)


class TestQuantile:
    @pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
    @pytest.mark.parametrize("degrees", [4.0, 7.5, 30.0, 1e6])
    def test_is_students(self, level: float, degrees: float) -> None:
        assert intervals.t_quantile(level, degrees) == pytest.approx(stats.t.ppf((1 + level) / 2, degrees), rel=5e-3)

    def test_without_end_it_is_the_normal_one(self) -> None:
        assert intervals.t_quantile(0.9, math.inf) == pytest.approx(stats.norm.ppf(0.95))


class TestEstimate:
    def test_of_a_mean_is_the_textbooks(self) -> None:
        values = np.random.default_rng(0).standard_normal(200)
        found = intervals.estimate_distance(mean_of(values), 0.9)
        assert found.standard_error == pytest.approx(values.std(ddof=1) / math.sqrt(200))
        expected = stats.norm.interval(0.9, values.mean(), found.standard_error)
        assert (found.lower, found.upper) == pytest.approx(expected, abs=0.03 * found.standard_error)
        assert (found.num_images, found.level) == (200, 0.9)

    def test_second_order_part_is_counted_once(self) -> None:
        """A U-statistic of pairs alone, 2 Σ x_i x_j ÷ n(n − 1), whose jackknife is √2 too wide."""
        ratio = []
        for seed in range(400):
            x = np.random.default_rng(seed).standard_normal((40, 30))
            products = (x @ x.T)[~np.eye(40, dtype=bool)].reshape(40, 39).sum(axis=1)
            value, total = products.sum() / (40 * 39), products.sum()
            pairs = (x @ x.T)[:32] * 2 / (38 * 37)
            distance = Distance.from_left_out(value, (total - 2 * products) / (39 * 38), pairs)
            ratio.append((value, intervals.variance(distance)[0], distance.influences.var(ddof=1) / 40))
        values, corrected, jackknife = np.array(ratio).T
        assert math.sqrt(jackknife.mean()) / values.std() == pytest.approx(math.sqrt(2), rel=0.1)
        assert math.sqrt(corrected.mean()) / values.std() == pytest.approx(1, rel=0.12)

    def test_packing(self, two: tuple[Distance, Distance]) -> None:
        packed = two[0].pack()
        assert packed.shape == (33, 60)
        back = Distance.unpack(two[0].value, packed)
        assert intervals.estimate_distance(back).standard_error == pytest.approx(
            intervals.estimate_distance(two[0]).standard_error, rel=1e-4
        )


class TestPairs:
    def test_a_schedule_does_not_differ_from_itself(self, two: tuple[Distance, Distance]) -> None:
        found = intervals.estimate_distance(intervals.paired_difference(two[0], two[0]))
        assert (found.value, found.lower, found.upper) == (0, 0, 0)

    def test_same_noises_make_it_narrower(self, two: tuple[Distance, Distance]) -> None:
        paired = intervals.estimate_distance(intervals.paired_difference(*two)).standard_error
        assert paired < 0.5 * math.hypot(*(intervals.estimate_distance(one).standard_error for one in two))

    def test_a_mean_beside_a_distance(self, two: tuple[Distance, Distance]) -> None:
        other = mean_of(np.random.default_rng(1).standard_normal(60))
        for found in (intervals.paired_difference(two[0], other), intervals.paired_difference(other, two[0])):
            np.testing.assert_allclose(np.abs(found.pairs), np.abs(two[0].pairs))

    def test_unequal_counts_are_a_bug(self, two: tuple[Distance, Distance]) -> None:
        with pytest.raises(AssertionError, match="equal counts"):
            intervals.paired_difference(two[0], mean_of(np.zeros(10)))


class TestExcess:
    def test_adds_the_floors_uncertainty(self, two: tuple[Distance, Distance]) -> None:
        floor = Floor(0.1, 0.02, 60, 4, "given")
        found = intervals.excess(two[0], floor)
        assert found.value == pytest.approx(two[0].value - 0.1)
        assert found.standard_error == pytest.approx(
            math.hypot(intervals.estimate_distance(two[0]).standard_error, 0.02)
        )


def test_coverage_in_the_benchmarks_fast_mode() -> None:
    done = subprocess.run([sys.executable, str(BENCHMARK), "--fast"], capture_output=True, text=True, check=True)
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["benchmark"] == "interval_coverage"
    coverages = {name: value for name, value in last["figures"].items() if name.startswith("coverage_")}
    assert len(coverages) >= 4
    assert all(0.8 <= value <= 1.0 for value in coverages.values()), coverages
