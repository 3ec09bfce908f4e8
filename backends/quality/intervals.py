"""Confidence intervals of distances: for the expectation at a count, for differences, for the excess over the floor.

A distance T of n images is a function of n exchangeable draws. Its variance follows from the delete-one jackknife,
whose excess for pairs of images that act together is taken off again (Efron & Stein 1981, section 5):

    D_i  = T − T₋ᵢ,  Q_ij = T − T₋ᵢ − T₋ⱼ + T₋ᵢⱼ,  both centred
    V    = (n − 1)/n · Σᵢ D_i² − Σ_{i<j} Q_ij²

Let T be split into parts that depend on one image, on pairs, … (Hoeffding's decomposition), with variances V₁, V₂, ….
The first sum estimates V₁ + 2V₂ + …, the second V₂ + …, and T varies by V₁ + V₂ + …. For Fréchet distances all of it is
V₂ where two distributions agree; and V₁ is not what the influence function says once images are fewer than features,
for that changes an image's weight, and a nuclear norm grows with the root of it. Differences of D and Q, summed alike,
give the variance of a difference of two distances on the same noises.

Standard error ÷ true deviation at n = 500, isotropic Gaussian features, equal distributions, with 64 and 1,280
features: influence function 1.36 and 1.61, delete-one jackknife 1.36 and 1.06, this 0.93 and 0.99.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite, sqrt
from statistics import NormalDist
from typing import Self

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

LEVEL = 0.90
NUM_PAIR_ROWS = 32
# The estimate of V₁ may be negative by noise, and V is kept from 0 by V ≥ this · V₂. Chosen on coverage of nominal 90 %
# where V₁ = 0 (n = 500, 64 features): with eigenvalues 1/k 85 % for 0 and 96 % for 1, with k^-1.2 95.4 % for 0.5 and
# 92.6 % for a third. A third on draws that had no part in the choice: 88.7 % and 90.8 %.
SECOND_ORDER_SHARE = 1 / 3
MIN_DEGREES = 4.0


@dataclass(frozen=True)
class Estimate:
    """A value, and the interval that holds its expectation at its count, reference fixed, with probability `level`.

    `standard_error` is the standard deviation of the value over draws of its images, reference fixed.
    """

    value: float
    lower: float
    upper: float
    standard_error: float
    num_images: int
    level: float


@dataclass(frozen=True)
class Floor:
    """The distance between real images and real images at a count: what is left of a distance when nothing is wrong.

    `source` says how it was had: from which images, or from draws of a Gaussian.
    """

    value: float
    standard_error: float
    num_images: int
    num_draws: int
    source: str


@dataclass(frozen=True, eq=False)
class Distance:
    """A distance of n images, with what is needed to say how sure it is, alone or beside others on the same noises.

    Attributes:
        value: the distance.
        influences: (n,) influence of each image, (n − 1) · (mean of T₋ⱼ − T₋ᵢ). Their deviation ÷ √n is the delete-one
            jackknife's standard error, which is too wide; `variance` corrects it.
        pairs: (r, n) what images 0 … r − 1 and each other image do together: Q_ij centred in rows and columns,
            and 0 for i = j. r = 0 where images act one by one (a mean over images).
    """

    value: float
    influences: FloatArray
    pairs: FloatArray

    @property
    def num_images(self) -> int:
        return len(self.influences)

    @classmethod
    def from_left_out(cls, value: float, left_out: FloatArray, pairs: FloatArray) -> Self:
        """From the distances without image i, (n,), and the first images' second differences Q_ij, (r, n)."""
        return cls(value, (len(left_out) - 1) * (left_out.mean() - left_out), _centred(pairs))

    @classmethod
    def of_mean(cls, values: FloatArray) -> Self:
        """The mean of one value an image, (n,): images act one by one."""
        left_out = (values.sum() - values) / (len(values) - 1)
        return cls.from_left_out(float(values.mean()), left_out, np.zeros((0, len(values))))

    def pack(self) -> NDArray[np.float32]:
        """(1 + r, n) influences, then pairs: what to store so that paired intervals need no features."""
        return np.vstack([self.influences, self.pairs]).astype(np.float32)

    @classmethod
    def unpack(cls, value: float, packed: NDArray[np.float32]) -> Self:
        """The inverse of `pack`, but for rounding."""
        rows = packed.astype(np.float64)
        return cls(value, rows[0], rows[1:])


def _centred(pairs: FloatArray) -> FloatArray:
    """Second differences (r, n) without what depends on one of the two images alone; entry (i, i) means nothing."""
    rows = np.arange(len(pairs))
    kept = pairs.copy()
    kept[rows, rows] = 0.0
    present = np.ones(pairs.shape, dtype=bool)
    present[rows, rows] = False
    if len(pairs) < 2:
        return np.zeros_like(pairs)
    of_rows = kept.sum(axis=1, keepdims=True) / (pairs.shape[1] - 1)
    of_columns = kept.sum(axis=0) / present.sum(axis=0)
    return np.where(present, kept - of_rows - of_columns + kept.sum() / present.sum(), 0.0)


def variance(distance: Distance) -> tuple[float, float]:
    """The variance of a distance over draws of its images, and that estimate's degrees of freedom (at least 4)."""
    n, r = distance.num_images, len(distance.pairs)
    first = distance.influences / (n - 1)  # D_i
    jackknife = (n - 1) / n * float(first @ first)
    if jackknife == 0.0:
        return 0.0, inf
    second = float(np.sum(distance.pairs**2)) * n * (n - 1) / 2 / ((r - 1) * (n - 2)) if r > 1 else 0.0
    # What image j does to Σ D_i²: its own term, and through D_i − Q_ij, which is D_i once j is gone.
    effects = first[:r] ** 2 + 2 * distance.pairs @ first if r > 1 else first**2
    spread = n * float(effects.var(ddof=1))
    degrees = 2 * jackknife**2 / spread if spread > 0 else inf
    return max(jackknife - second, SECOND_ORDER_SHARE * second), max(degrees, MIN_DEGREES)


def estimate_distance(distance: Distance, level: float = LEVEL) -> Estimate:
    """The distance with the interval for its expectation at this count, the reference fixed."""
    spread, degrees = variance(distance)
    return _interval(distance.value, spread, degrees, distance.num_images, level)


def paired_difference(distance: Distance, other: Distance) -> Distance:
    """`distance` − `other`, image i of both from the same noise; its `estimate_distance` has the paired interval."""
    assert distance.num_images == other.num_images, "distances are compared at equal counts only"
    rows = min(len(distance.pairs), len(other.pairs))
    # Where one has none, its images act one by one, so its second differences are 0.
    pairs = (
        distance.pairs[:rows] - other.pairs[:rows] if rows else distance.pairs if len(distance.pairs) else -other.pairs
    )
    return Distance(distance.value - other.value, distance.influences - other.influences, pairs)


def excess(distance: Distance, floor: Floor) -> Estimate:
    """The distance beyond the floor at the same count, with the uncertainty of both."""
    assert distance.num_images == floor.num_images, "a floor holds at its own count only"
    spread, degrees = variance(distance)
    total = spread + floor.standard_error**2
    # Welch and Satterthwaite; the floor's own variance counts as known.
    degrees = degrees * (total / spread) ** 2 if spread > 0 else inf
    return _interval(distance.value - floor.value, total, degrees, distance.num_images, LEVEL)


def mean_of(values: Sequence[Distance]) -> tuple[float, float]:
    """The mean of distances of disjoint images, and its standard error."""
    spreads = [variance(value)[0] for value in values]
    return float(np.mean([value.value for value in values])), sqrt(sum(spreads)) / len(values)


def _interval(value: float, spread: float, degrees: float, num_images: int, level: float) -> Estimate:
    error = sqrt(spread)
    half = t_quantile(level, degrees) * error
    return Estimate(value, value - half, value + half, error, num_images, level)


def t_quantile(level: float, degrees: float) -> float:
    """Half the width of Student's two-sided interval in standard errors, by its expansion in 1/degrees.

    Abramowitz & Stegun 26.7.5; for four degrees or more within 0.2 % at level 0.9 and 2 % at 0.99.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    if not isfinite(degrees):
        return z
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / degrees ** (power + 1) for power, term in enumerate(terms))


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Kendall's τ-b of two lists of values (Kendall 1945); 0 where all of one are alike."""
    a, b = (np.sign(np.subtract.outer(values, values)) for values in (first, second))
    return float((a * b).sum() / sqrt(max((a * a).sum() * (b * b).sum(), 1.0)))
