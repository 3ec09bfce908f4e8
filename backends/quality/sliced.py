"""The sliced Wasserstein distance between features of images and a reference: MIND, on any extractor's features.

    MIND = 3 D · mean over directions u of W₂²(u · X, u · Y)                          (Berthet et al. 2026, 2605.06797)

W₂² of two sets of numbers is the mean squared difference of their quantiles. The paper draws as many real images as
there are generated ones; here every real image counts. With C(t) the integral of the reference's quantile function up
to t, and x₁ ≤ … ≤ xₙ the projections of the images, exactly

    W₂² = mean x² + mean y² − 2 Σᵢ xᵢ (C(i/n) − C((i−1)/n)).

Without an image, those that rank above it move down by one, so that prefix sums give every distance of n − 1 images,
and of n − 2.

Standard error ÷ true deviation at n = 100, 1,000 real images, 200 draws: 1.03 with 24 Gaussian features alike, 1.05
with 256 of eigenvalues 1/k, 0.98 where generated ones are 1.1 × as wide; intervals of 90 % held in 91, 95 and 89 %.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .distances import check_features
from .intervals import NUM_PAIR_ROWS, Distance, FloatArray

NUM_DIRECTIONS = 1000
SEED = 2605_06797  # no one's seed of images: features that are the directions themselves would score otherwise
DIRECTIONS_AT_ONCE = 16


@lru_cache(maxsize=2)
def directions(dim: int) -> FloatArray:
    """(1000, dim) unit vectors, the same ones always: row k is the k-th draw of a fixed seed."""
    draws = np.random.default_rng(SEED).standard_normal((NUM_DIRECTIONS, dim))
    return draws / np.linalg.norm(draws, axis=1, keepdims=True)


@dataclass(frozen=True, eq=False)
class SlicedReference:
    """A reference's mean (D,), and the projections of its features beyond that, (1000, m), each direction's sorted."""

    mean: FloatArray
    projected: NDArray[np.float32]

    @classmethod
    def of(cls, features: NDArray[Any]) -> Self:
        """From features (m, D), m ≥ 8."""
        check_features(features, features.shape[1])
        mean = features.mean(axis=0, dtype=np.float64)
        projected = _project(features, mean).astype(np.float32)
        projected.sort(axis=1)
        return cls(mean, projected)


def mind(features: NDArray[Any], reference: SlicedReference) -> Distance:
    """The sliced Wasserstein distance of features (n, D), with each image's influence on it.

    Raises:
        InputError: fewer than 8 images, another number of features than the reference's, or values that are not finite.
    """
    dim = len(reference.mean)
    check_features(features, dim)
    projected = _project(features, reference.mean)
    value, left_out, two_out = 0.0, np.zeros(len(features)), np.zeros((min(NUM_PAIR_ROWS, len(features)), 1))
    for start in range(0, NUM_DIRECTIONS, DIRECTIONS_AT_ONCE):
        part = slice(start, start + DIRECTIONS_AT_ONCE)
        found = _slices(projected[part], reference.projected[part], len(two_out))
        value, left_out, two_out = value + found[0], left_out + found[1], two_out + found[2]
    pairs = value - left_out[: len(two_out), None] - left_out + two_out
    scale = 3 * dim / NUM_DIRECTIONS
    return Distance.from_left_out(scale * value, scale * left_out, scale * pairs)


def _project(features: NDArray[Any], mean: FloatArray) -> FloatArray:
    """(1000, n) features (n, D) along each direction, beyond the mean."""
    return directions(len(mean)) @ (features - mean).T


def _slices(x: FloatArray, reference: NDArray[np.float32], rows: int) -> tuple[float, FloatArray, FloatArray]:
    """Sums over directions of W₂², (n,) of it without each image, and (rows, n) of it without two.

    Args:
        x: (k, n) images along k directions.
        reference: (k, m) the reference's, sorted.
        rows: of how many images pairs are looked at; where both are the same, the entry means nothing.
    """
    n, y = x.shape[1], reference.astype(np.float64)
    integral = np.pad(np.cumsum(y, axis=1), ((0, 0), (1, 0))) / y.shape[1]  # C(j/m)
    order = x.argsort(axis=1)
    ranks = order.argsort(axis=1)
    energy, within = x**2, (y**2).mean(axis=1, keepdims=True)
    total = energy.sum(axis=1, keepdims=True)

    def sums(left: int) -> list[FloatArray]:
        """(k, n + 1) sums of xᵢ times its part of C, over all below a rank, if 0, 1, … `left` images below are gone."""
        parts = _parts(integral, n - left)
        moved = [np.pad(parts, ((0, 0), (down, left - down))) for down in range(left + 1)]
        return [np.pad(np.cumsum(np.take_along_axis(x, order, 1) * each, axis=1), ((0, 0), (1, 0))) for each in moved]

    (whole,) = sums(0)
    value = total / n + within - 2 * whole[:, -1:]
    stay, fall = sums(1)
    products = stay[:, :-1] + fall[:, -1:] - fall[:, 1:]
    left_out = (total - energy) / (n - 1) + within - 2 * np.take_along_axis(products, ranks, 1)
    stay, fall, fall_twice = sums(2)
    lower = np.take_along_axis(stay[:, :-1] - fall[:, 1:], ranks, 1)  # what the lower of two adds, and the upper
    upper = np.take_along_axis(fall[:, :-1] + fall_twice[:, -1:] - fall_twice[:, 1:], ranks, 1)
    first = (slice(None), slice(rows), None)
    is_below = ranks[first] < ranks[:, None]
    joint = np.where(is_below, lower[first] + upper[:, None], upper[first] + lower[:, None])
    kept = (total[:, None] - energy[first] - energy[:, None]) / (n - 2)
    return float(value.sum()), left_out.sum(axis=0), (kept + within[:, None] - 2 * joint).sum(axis=0)


def _parts(integral: FloatArray, count: int) -> FloatArray:
    """(k, count) what each of `count` equal parts of the reference's quantiles adds to C, from C(j/m), (k, m + 1)."""
    m = integral.shape[1] - 1
    at = np.arange(count + 1) * (m / count)
    below = np.minimum(at.astype(np.int64), m - 1)
    share = at - below
    return np.diff(integral[:, below] * (1 - share) + integral[:, below + 1] * share, axis=1)
