"""Fréchet distances against torch-fidelity, SciPy, and against leaving images out for real."""

from typing import Any

import numpy as np
import pytest
import torch
from exeunt.backends.errors import InputError
from exeunt.backends.quality import distances, intervals
from numpy.typing import NDArray
from scipy.linalg import sqrtm
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

SHAPES = [(40, 100), (60, 20), (30, 30), (12, 64)]


def draws(count: int, dim: int, seed: int = 0, shift: float = 0.0) -> NDArray[np.float32]:
    """Correlated features (count, dim) with a falling spectrum."""
    generator = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).standard_normal((dim, dim)) / np.sqrt(dim)
    values = generator.standard_normal((count, dim)) * np.arange(1, dim + 1) ** -0.5
    return (values @ mixing + shift).astype(np.float32)


def reference(dim: int) -> tuple[NDArray[np.float32], distances.ReferenceRoot]:
    features = draws(300, dim, seed=7, shift=0.1)
    statistics = distances.Statistics.of(features)
    return features, distances.ReferenceRoot.of(statistics.mean, statistics.covariance)


def torch_fidelity_distance(features: NDArray[Any], other: NDArray[Any]) -> float:
    statistics = [fid_features_to_statistics(torch.from_numpy(x.astype(np.float64))) for x in (features, other)]
    return fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID]


class TestStatistics:
    @pytest.mark.parametrize("sizes", [(200,), (1, 199), (50, 1, 149), (1, 1, 198)])
    def test_chunks_merge_to_the_whole(self, sizes: tuple[int, ...]) -> None:
        features = draws(200, 16)
        chunks = np.split(features, np.cumsum(sizes)[:-1])
        merged = distances.Statistics.of_chunks(chunks)
        assert merged.count == 200
        np.testing.assert_allclose(merged.mean, features.mean(axis=0, dtype=np.float64), atol=1e-14)
        np.testing.assert_allclose(merged.covariance, np.cov(features.astype(np.float64), rowvar=False), atol=1e-14)

    def test_a_part_can_be_taken_away_again(self) -> None:
        features = draws(200, 16)
        rest = distances.Statistics.of(features).without(distances.Statistics.of(features[:70]))
        expected = distances.Statistics.of(features[70:])
        assert rest.count == 130
        np.testing.assert_allclose(rest.mean, expected.mean, atol=1e-13)
        np.testing.assert_allclose(rest.covariance, expected.covariance, atol=1e-13)

    def test_far_from_the_origin(self) -> None:
        """Sums of squares would lose all digits here."""
        features = draws(100, 4).astype(np.float64) + 1e7
        merged = distances.Statistics.of_chunks([features[:30], features[30:]])
        np.testing.assert_allclose(merged.covariance, np.cov(features, rowvar=False), rtol=1e-6)


class TestValue:
    @pytest.mark.parametrize(("count", "dim"), SHAPES)
    def test_equals_torch_fidelity(self, count: int, dim: int) -> None:
        features = draws(count, dim)
        real, root = reference(dim)
        expected = torch_fidelity_distance(features, real)
        for found in (distances.frechet(features, root).value, distances.frechet_value(features, root)):
            assert found == pytest.approx(expected, rel=1e-4)

    def test_equals_scipys_matrix_root(self) -> None:
        features, (real, root) = draws(80, 24), reference(24)
        one, two = (distances.Statistics.of(x) for x in (features, real))
        middle = np.trace(sqrtm(one.covariance @ two.covariance)).real
        step = one.mean - two.mean
        expected = step @ step + np.trace(one.covariance) + np.trace(two.covariance) - 2 * middle
        assert distances.frechet_value(features, root) == pytest.approx(expected, rel=1e-8)

    def test_reference_of_low_rank(self) -> None:
        real = draws(10, 40, seed=3)
        statistics = distances.Statistics.of(real)
        root = distances.ReferenceRoot.of(statistics.mean, statistics.covariance)
        assert root.factor.shape[1] == 9
        features = draws(25, 40)
        # torch-fidelity takes roots of a singular product's rounding errors, hence the tolerance.
        expected = torch_fidelity_distance(features, real)
        assert distances.frechet(features, root).value == pytest.approx(expected, rel=1e-4)

    def test_of_the_reference_itself_is_zero(self) -> None:
        real, root = reference(16)
        assert distances.frechet_value(real, root) == pytest.approx(0, abs=1e-6 * root.trace)


class TestInfluences:
    @pytest.mark.parametrize(("count", "dim"), SHAPES)
    def test_are_those_of_leaving_images_out(self, count: int, dim: int) -> None:
        features, (_, root) = draws(count, dim), reference(dim)
        without = np.array([distances.frechet_value(np.delete(features, i, axis=0), root) for i in range(count)])
        expected = (count - 1) * (without.mean() - without)
        found = distances.frechet(features, root).influences
        assert np.abs(found - expected).max() <= 0.02 * expected.std()

    @pytest.mark.parametrize(("count", "dim"), [(24, 60), (24, 10)])
    def test_pairs_are_those_of_leaving_two_out(self, count: int, dim: int) -> None:
        features, (_, root) = draws(count, dim), reference(dim)
        value = distances.frechet_value(features, root)
        one = np.array([distances.frechet_value(np.delete(features, i, axis=0), root) for i in range(count)])
        two = np.zeros((count, count))
        for i in range(count):
            for j in range(i):
                two[i, j] = two[j, i] = distances.frechet_value(np.delete(features, [i, j], axis=0), root)
        expected = intervals.Distance.from_left_out(value, one, value - one[:, None] - one + two).pairs
        found = distances.frechet(features, root).pairs
        assert np.sum((found - expected) ** 2) <= 0.02 * np.sum(expected**2)

    def test_order_of_images_does_not_matter(self) -> None:
        features, (_, root) = draws(50, 20), reference(20)
        order = np.random.default_rng(0).permutation(50)
        plain, mixed = distances.frechet(features, root), distances.frechet(features[order], root)
        assert mixed.value == pytest.approx(plain.value, rel=1e-10)
        np.testing.assert_allclose(mixed.influences, plain.influences[order], atol=1e-8)


class TestCollapse:
    """A broken schedule may draw one image over and over: a large distance, not an exception."""

    @pytest.mark.parametrize("dim", [4, 40])
    def test_one_image_only(self, dim: int) -> None:
        _, root = reference(dim)
        features = np.repeat(draws(1, dim), 20, axis=0)
        found = distances.frechet(features, root)
        step = features[0] - root.mean
        assert found.value == pytest.approx(float(step @ step) + root.trace)
        assert intervals.estimate_distance(found).standard_error == pytest.approx(0, abs=1e-6)

    @pytest.mark.parametrize("dim", [4, 40])
    def test_some_images_twice(self, dim: int) -> None:
        _, root = reference(dim)
        found = distances.frechet(np.repeat(draws(10, dim), 2, axis=0), root)
        assert np.isfinite(found.influences).all()
        assert np.isfinite(found.pairs).all()


class TestBadFeatures:
    @pytest.mark.parametrize(
        ("features", "message"),
        [
            (np.zeros((20, 5)), "same extractor"),
            (np.zeros(20), "same extractor"),
            (np.zeros((7, 16)), "8 images or more"),
            (np.where(np.eye(20, 16) == 1, np.nan, 0.0), "16 of 20 images are not"),
        ],
    )
    def test_are_refused(self, features: NDArray[Any], message: str) -> None:
        _, root = reference(16)
        for measure in (distances.frechet, distances.frechet_value):
            with pytest.raises(InputError, match=message):
                measure(features, root)


def test_paired_distance() -> None:
    features, baseline = draws(30, 12, seed=1), draws(30, 12, seed=2)
    found = distances.paired_distance(features, baseline)
    squares = ((features.astype(np.float64) - baseline) ** 2).sum(axis=1)
    assert found.value == pytest.approx(squares.mean())
    np.testing.assert_allclose(found.influences, squares - squares.mean(), atol=1e-10)
    assert intervals.estimate_distance(found).standard_error == pytest.approx(squares.std(ddof=1) / np.sqrt(30))


@pytest.mark.parametrize("count", [12, 60])
def test_a_reference_or_images_that_dont_vary_have_a_distance(count: int) -> None:
    """|μ₁ − μ₂|² + tr Σ of whichever varies."""
    features, dim = draws(count, 20).astype(np.float64), 20
    single = distances.ReferenceRoot.of(np.zeros(dim), np.zeros((dim, dim)))
    wanted = float((features.mean(axis=0) ** 2).sum() + features.var(axis=0, ddof=1).sum())
    assert distances.frechet(features, single).value == pytest.approx(wanted)
    _, root = reference(dim)
    constant = np.tile(root.mean, (count, 1))
    assert distances.frechet(constant, root).value == pytest.approx(root.trace)


@pytest.mark.parametrize("dim", [6, 32])
def test_the_vectors_squared_length_is_the_distance_where_it_has_all_directions(dim: int) -> None:
    random = np.random.default_rng(dim)
    mixing = random.standard_normal((dim, dim))
    moments = distances.Statistics.of(random.standard_normal((500, dim)) @ mixing)
    features = (0.3 + 1.2 * random.standard_normal((200, dim))) @ mixing
    root = distances.ReferenceRoot.of(moments.mean, moments.covariance)
    vector = distances.frechet_vector(features, root)
    assert float(vector @ vector) == pytest.approx(distances.frechet_value(features, root), rel=1e-6)


def test_the_vector_has_the_directions_in_which_the_reference_varies_most() -> None:
    random = np.random.default_rng(1)
    scales = np.arange(1, 81) ** -0.8
    moments = distances.Statistics.of(random.standard_normal((1000, 80)) * scales)
    root = distances.ReferenceRoot.of(moments.mean, moments.covariance)
    features = (0.2 + 1.1 * random.standard_normal((300, 80))) * scales
    vector = distances.frechet_vector(features, root)
    axes = root.factor[:, -distances.VECTOR_AXES :] / np.linalg.norm(root.factor[:, -distances.VECTOR_AXES :], axis=0)
    there = distances.ReferenceRoot.of(moments.mean @ axes, axes.T @ moments.covariance @ axes)
    assert float(vector @ vector) == pytest.approx(distances.frechet_value(features @ axes, there), rel=1e-6)


def test_the_paired_vectors_squared_length_is_near_the_paired_distance() -> None:
    random = np.random.default_rng(2)
    baseline = random.standard_normal((256, 200)).astype(np.float32)
    features = baseline + 0.3 * random.standard_normal((256, 200)).astype(np.float32)
    vector = distances.paired_vector(features, baseline)
    assert float(vector @ vector) == pytest.approx(distances.paired_distance(features, baseline).value, rel=0.15)
    few = distances.paired_vector(features[:, :2], baseline[:, :2])
    assert few.shape == (2 * distances.VECTOR_IMAGES,)
    assert not distances.paired_vector(baseline, baseline).any()
