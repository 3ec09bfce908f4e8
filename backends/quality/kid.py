"""The kernel distance (KID): squared maximum mean discrepancy under the cubic kernel (Bińkowski et al. 2018, eq. 4).

The estimator here uses every pair of images once and is unbiased, so that its expectation does not depend on the
count and its floor is 0. torch-fidelity averages the same unbiased estimator over 100 random subsets of 1,000: its
expectation is the same, its value differs by the luck of the subsets.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .frechet import check_features
from .intervals import NUM_PAIR_ROWS, Distance, FloatArray

ROWS_AT_ONCE = 2048


@dataclass(frozen=True, eq=False)
class KernelReference:
    """Reference features (m, D), and the mean of the kernel over their pairs, worked out once."""

    features: FloatArray
    within: float

    @classmethod
    def of(cls, features: NDArray[Any]) -> Self:
        """From features (m, D), m ≥ 8."""
        check_features(features, features.shape[1])
        values = features.astype(np.float64)
        m = len(values)
        return cls(values, float(_sums(values, values, without_self=True).sum()) / (m * (m - 1)))


def cubic_kernel(x: FloatArray, y: FloatArray) -> FloatArray:
    """k(x, y) = (x·y/D + 1)³ of rows (n, D) and (m, D): (n, m)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def _sums(x: FloatArray, y: FloatArray, without_self: bool = False) -> FloatArray:
    """Σ_j k(x_i, y_j), (n,), without j = i where x and y are the same."""
    parts = [cubic_kernel(x[start : start + ROWS_AT_ONCE], y).sum(axis=1) for start in range(0, len(x), ROWS_AT_ONCE)]
    own = (np.einsum("ij,ij->i", x, x) / x.shape[1] + 1) ** 3 if without_self else 0.0
    return np.concatenate(parts) - own


def kid(features: NDArray[Any], reference: KernelReference) -> Distance:
    """The unbiased squared discrepancy between features (n, D) and a reference, with each image's influence on it.

    Raises:
        InputError: fewer than 8 images, another number of features than the reference's, or values that are not finite.
    """
    check_features(features, reference.features.shape[1])
    values, n, m = features.astype(np.float64), len(features), len(reference.features)
    inner = _sums(values, values, without_self=True)
    outer = _sums(values, reference.features)
    value = inner.sum() / (n * (n - 1)) - 2 * outer.sum() / (n * m) + reference.within
    left_out = (inner.sum() - 2 * inner) / ((n - 1) * (n - 2)) - 2 * (outer.sum() - outer) / ((n - 1) * m)
    pairs = 2 * cubic_kernel(values[:NUM_PAIR_ROWS], values) / ((n - 2) * (n - 3))
    return Distance.from_left_out(float(value), left_out + reference.within, pairs)
