"""Figures that separate broken images from good ones where a distance may not; guards use them for vetoes.

Each figure is a mean over images, so it has an interval, and none depends on how many images there are. What they may
be is not decided here: a study's own full schedule and fewer steps say it; see `reports/view/guards.py`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..intervals import Distance, FloatArray
from .pixels import NAMES

# A statistic so many standard deviations out of the range says nothing more.
MOST_DEVIATIONS = 5.0
# The least deviation of each statistic that counts, in its own unit: where all images of a set agree, as grey ones do
# in their colour, rounding is no deviation.
LEAST_SPREADS = np.array([0.02, 0.05, 0.05, 0.05, 0.02, 0.02, 0.02, 0.02, 0.02])
# Repeats are looked for among so many of the first images, since a nearest neighbour gets nearer with every image.
REPEAT_IMAGES = 256


@dataclass(frozen=True, eq=False)
class PixelRange:
    """The normal range of the statistics of good images, one by one and together.

    Attributes:
        median: (S,).
        below, above: (S,) one standard deviation of a normal distribution, judged by the central 95 % on either side.
        precision: (S, S) the inverse of their covariance.
        far: the squared Mahalanobis distance from the median beyond which 1 % of good images lie.
    """

    median: FloatArray
    below: FloatArray
    above: FloatArray
    precision: FloatArray
    far: float

    @classmethod
    def of(cls, statistics: NDArray[np.float32]) -> "PixelRange":
        """The range of images with these statistics, (n, S)."""
        values = statistics.astype(np.float64)
        low, median, high = np.percentile(values, [2.5, 50, 97.5], axis=0)
        covariance = np.cov(values.T) + np.diag((LEAST_SPREADS / 2) ** 2)
        precision = np.linalg.inv(covariance).astype(np.float64)
        far = float(np.percentile(_mahalanobis(values - median, precision), 99))
        below, above = (np.maximum(side / 1.96, LEAST_SPREADS) for side in (median - low, high - median))
        return cls(median, below, above, precision, far)

    def deviations(self, statistics: NDArray[np.float32]) -> FloatArray:
        """(n, S) squared deviations from the median, at most 25."""
        away = statistics - self.median
        return np.minimum(np.where(away < 0, away / self.below, away / self.above) ** 2, MOST_DEVIATIONS**2)


def pixel_deviation(statistics: NDArray[np.float32], normal: PixelRange) -> tuple[Distance, str]:
    """The mean over images of the largest squared deviation, and the name of the statistic that deviates most."""
    squares = normal.deviations(statistics)
    return Distance.of_mean(squares.max(axis=1)), NAMES[int(squares.mean(axis=0).argmax())]


def strays(statistics: NDArray[np.float32], normal: PixelRange) -> Distance:
    """The share of images whose statistics are together unlike those of good images, of which 1 % are."""
    away = _mahalanobis(statistics - normal.median, normal.precision)
    return Distance.of_mean((away > normal.far).astype(np.float64))


def _mahalanobis(away: FloatArray, precision: FloatArray) -> FloatArray:
    """(n,) squared Mahalanobis distances of differences (n, S)."""
    return np.einsum("ij,jk,ik->i", away, precision, away)


def nearest_neighbours(features: NDArray[Any]) -> FloatArray:
    """(n,) the distance of each of the first 256 features (N, D) to the nearest other one of them."""
    values = features[:REPEAT_IMAGES].astype(np.float64)
    squares = (values**2).sum(axis=1)
    distances = squares[:, None] + squares - 2 * values @ values.T
    np.fill_diagonal(distances, np.inf)
    return np.sqrt(distances.min(axis=1).clip(min=0))


def repeats(features: NDArray[Any], normal: NDArray[Any]) -> Distance:
    """The share of images that are nearly another image of the same set.

    Nearly: their features (N, D) are nearer to each other than half the distance under which the nearest 5 % of
    `normal` have their neighbours.
    """
    radius = float(np.percentile(nearest_neighbours(normal), 5)) / 2
    return Distance.of_mean((nearest_neighbours(features) <= radius).astype(np.float64))
