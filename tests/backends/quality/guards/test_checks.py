"""What guards judge by, on features and statistics whose figures are known."""

import numpy as np
import pytest
from exeunt.backends.quality.guards.checks import (
    MOST_DEVIATIONS,
    PixelRange,
    nearest_neighbours,
    pixel_deviation,
    repeats,
    strays,
)
from exeunt.backends.quality.guards.pixels import NAMES
from scipy.spatial import cKDTree
from scipy.spatial.distance import mahalanobis
from scipy.stats import norm

RANDOM = np.random.default_rng(0)
NORMAL = RANDOM.standard_normal((4000, len(NAMES))).astype(np.float32) * 0.3
FEATURES = RANDOM.standard_normal((256, 12)).astype(np.float32)


def test_a_range_is_that_of_normal_deviates():
    found = PixelRange.of(NORMAL)
    assert found.median == pytest.approx(0, abs=0.03)
    assert found.below == pytest.approx(0.3, rel=0.1)
    assert found.above == pytest.approx(0.3, rel=0.1)


def test_normal_images_deviate_as_the_largest_of_so_many_normal_deviates():
    other = RANDOM.standard_normal((4000, len(NAMES))).astype(np.float32) * 0.3
    found, _ = pixel_deviation(other, PixelRange.of(NORMAL))
    largest = norm.ppf((RANDOM.random((100_000, len(NAMES))).max(axis=1) + 1) / 2)
    assert found.value == pytest.approx(float((largest**2).mean()), rel=0.06)


def test_the_statistic_that_deviates_most_is_named():
    moved = NORMAL.copy()
    moved[:, NAMES.index("fine detail")] -= 2.0
    found, worst = pixel_deviation(moved, PixelRange.of(NORMAL))
    assert worst == "fine detail"
    assert found.value > 0.9 * MOST_DEVIATIONS**2


def test_where_all_images_agree_rounding_is_no_deviation():
    grey = NORMAL.copy()
    grey[:, NAMES.index("colourfulness")] = 0.0
    normal = PixelRange.of(grey)
    tinted = grey.copy()
    tinted[:, NAMES.index("colourfulness")] = 0.004
    before, after = (pixel_deviation(each, normal)[0].value for each in (grey, tinted))
    assert after == pytest.approx(before, rel=0.01)


def test_good_images_stray_as_often_as_they_should_and_mixtures_more_often():
    normal = PixelRange.of(NORMAL)
    other = RANDOM.standard_normal((4000, len(NAMES))).astype(np.float32) * 0.3
    assert strays(other, normal).value == pytest.approx(0.01, abs=0.006)
    # Within the range of each statistic, but not of both together.
    tied = NORMAL.copy()
    tied[:, 1] = tied[:, 0] + 0.05 * tied[:, 1]
    odd = tied.copy()
    odd[::10, 1] = -tied[::10, 0]
    assert strays(odd, PixelRange.of(tied)).value > 0.01 + 0.06


def test_squared_mahalanobis_distances_are_scipys():
    normal = PixelRange.of(NORMAL)
    wanted = [mahalanobis(row, normal.median, normal.precision) ** 2 for row in NORMAL[:50].astype(np.float64)]
    assert strays(NORMAL[:50], normal).value == np.mean(np.array(wanted) > normal.far)


def test_nearest_neighbours_are_scipys():
    found = nearest_neighbours(FEATURES)
    wanted = cKDTree(FEATURES.astype(np.float64)).query(FEATURES.astype(np.float64), k=2)[0][:, 1]
    assert found == pytest.approx(wanted, abs=1e-6)


def test_only_copies_are_repeats():
    other = RANDOM.standard_normal((256, 12)).astype(np.float32)
    assert repeats(other, FEATURES).value < 0.02
    copied = other.copy()
    copied[::8] = other[0]
    assert repeats(copied, FEATURES).value == pytest.approx(1 / 8, abs=0.02)
    assert repeats(other[np.arange(256) // 10], FEATURES).value > 0.98
