"""MIND against SciPy's quantiles and closed forms, and its uncertainty against leaving images out for real."""

import numpy as np
import pytest
from exeunt.backends.errors import InputError
from exeunt.backends.quality import intervals, sliced
from exeunt.backends.quality.floors import sliced_floor
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance


def draws(count: int, dim: int = 24, seed: int = 0, scale: float = 1.0, shift: float = 0.0) -> NDArray[np.float32]:
    return (scale * np.random.default_rng(seed).standard_normal((count, dim)) + shift).astype(np.float32)


def naive(features: NDArray[np.float32], real: NDArray[np.float32], power: int = 2) -> float:
    """The same mean over directions, each image repeated until both sides have as many."""
    common = np.lcm(len(features), len(real))
    along = sliced.directions(features.shape[1]).T
    x, y = (
        np.sort(np.repeat(f.astype(np.float64) @ along, common // len(f), axis=0), axis=0) for f in (features, real)
    )
    return float((np.abs(x - y) ** power).mean(axis=0).mean())


@pytest.mark.parametrize(("count", "others"), [(30, 30), (30, 45), (64, 24), (16, 9)])
def test_equals_sorted_quantiles(count: int, others: int) -> None:
    features, real = draws(count, scale=1.3, shift=3.0), draws(others, seed=1)
    found = sliced.mind(features, sliced.SlicedReference.of(real)).value
    assert found == pytest.approx(3 * 24 * naive(features, real), rel=1e-6)


def test_the_independent_computation_is_scipys() -> None:
    features, real = draws(30), draws(45, seed=1, scale=1.4)
    along = sliced.directions(24)
    scipys = [wasserstein_distance(features @ each, real @ each) for each in along]
    assert naive(features, real, power=1) == pytest.approx(float(np.mean(scipys)), rel=1e-6)


def test_directions_are_unit_vectors_and_always_the_same() -> None:
    found = sliced.directions(7)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1)
    assert found.shape == (1000, 7)
    expected = np.random.default_rng(260506797).standard_normal(7)
    np.testing.assert_allclose(found[0], expected / np.linalg.norm(expected))


def test_a_shift_costs_three_times_its_square() -> None:
    """E (u·δ)² = |δ|²/D over directions, whatever the distribution."""
    real, shift = draws(500), np.full(24, 0.5, dtype=np.float32)
    found = sliced.mind(real + shift, sliced.SlicedReference.of(real)).value
    along = sliced.directions(24) @ shift
    assert found == pytest.approx(3 * 24 * float((along**2).mean()), rel=1e-5)
    assert found == pytest.approx(3 * float(shift @ shift), rel=0.1)


def test_shifted_and_scaled_gaussians() -> None:
    """W₂² of N(u·δ, s²) and N(0, 1) is (u·δ)² + (s − 1)², so MIND is 3 |δ|² + 3 D (s − 1)²."""
    features, real = draws(8000, dim=4, scale=1.5, shift=0.7), draws(8000, dim=4, seed=1)
    found = sliced.mind(features, sliced.SlicedReference.of(real)).value
    assert found == pytest.approx(3 * 4 * 0.7**2 + 3 * 4 * 0.5**2, rel=0.05)


def test_influences_and_pairs_are_those_of_leaving_images_out() -> None:
    features, real = draws(11), sliced.SlicedReference.of(draws(31, seed=1))
    found = sliced.mind(features, real)

    def value(*gone: int) -> float:
        return sliced.mind(np.delete(features, gone, axis=0), real).value

    without = np.array([value(i) for i in range(11)])
    np.testing.assert_allclose(found.influences, 10 * (without.mean() - without), atol=1e-8)
    second = [[found.value - without[i] - without[j] + value(i, j) for j in range(11)] for i in range(11)]
    expected = intervals.Distance.from_left_out(found.value, without, np.array(second))
    np.testing.assert_allclose(found.pairs, expected.pairs, atol=1e-8)


def test_images_that_are_the_same_count_alike() -> None:
    found = sliced.mind(np.repeat(draws(10), 4, axis=0), sliced.SlicedReference.of(draws(61, seed=1)))
    np.testing.assert_allclose(found.influences[::4], found.influences[3::4], atol=1e-8)


@pytest.mark.parametrize(
    ("scale", "decay"),
    [(1.0, 0.0), (1.1, 0.5), *(pytest.param(*each, marks=pytest.mark.slow) for each in ((1.0, 0.5), (1.1, 0.0)))],
)
def test_its_standard_error_is_right(scale: float, decay: float) -> None:
    scales = np.arange(1, 25) ** -decay
    real = sliced.SlicedReference.of(draws(1000, seed=99) * scales)
    found = [sliced.mind(draws(100, seed=seed, scale=scale) * scales, real) for seed in range(60)]
    values = np.array([distance.value for distance in found])
    errors = np.sqrt(np.mean([intervals.variance(distance)[0] for distance in found]))
    assert errors / values.std(ddof=1) == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize("count", [50, pytest.param(300, marks=pytest.mark.slow)])
def test_the_floor_is_what_fresh_real_images_score(count: int) -> None:
    floors, fresh = list[float](), list[float]()
    for seed in range(12):
        real = draws(400, seed=900 + seed)
        floor = sliced_floor(real, count)
        assert (floor.num_images, floor.num_draws) == (count, {50: 8, 300: 2}[count])
        assert "400 real images" in floor.source
        floors.append(floor.value)
        fresh += [sliced.mind(draws(count, seed=3 * seed + i), sliced.SlicedReference.of(real)).value for i in range(3)]
    assert float(np.mean(floors)) == pytest.approx(float(np.mean(fresh)), rel=0.1)


def test_bad_features_are_refused() -> None:
    real = sliced.SlicedReference.of(draws(20))
    with pytest.raises(InputError, match="same extractor"):
        sliced.mind(draws(20, dim=3), real)
    with pytest.raises(InputError, match="8 images"):
        sliced.SlicedReference.of(draws(4))
    with pytest.raises(InputError, match="finite"):
        sliced.mind(np.full((20, 24), np.nan, dtype=np.float32), real)
