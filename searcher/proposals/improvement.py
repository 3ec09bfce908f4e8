"""The hypervolume that an evaluation may gain, where its cost is known before.

Time is a sum of timed calls, so only quality is open. The expected improvement of the hypervolume then is a sum over
the front's stretches of expected improvements of one objective, in closed form.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Bounds:
    """What bounds the hypervolume, and how small a difference counts.

    Attributes:
        worst: the quality beyond which a schedule is worthless.
        slowest: the speed below which it is.
        floor: the quality that can't be beaten, which is subtracted before logarithms are taken.
        least: the excess over the floor below which all are as good.
        fastest: the speed above which all are as fast.
    """

    worst: float
    slowest: float
    floor: float = 0.0
    least: float = 0.0
    fastest: float = math.inf

    @property
    def best(self) -> float:
        """The smallest logarithm that counts."""
        return math.log(self.least) if self.least > 0 else -math.inf

    @property
    def shortest(self) -> float:
        """The smallest logarithm of a time that counts."""
        return -math.log(self.fastest)

    def logarithm(self, quality: float) -> float:
        """The logarithm of what a quality has beyond the floor."""
        return math.log(max(quality - self.floor, self.least, 1e-12))


def expected_improvement(
    front: Sequence[tuple[float, float]],
    reference: tuple[float, float],
    costs: Array,
    means: Array,
    deviations: Array,
    best: float = -np.inf,
) -> Array:
    """(C,) the expected gain in hypervolume of each candidate.

    Args:
        front: (cost, value) of the front, by rising cost; lower is better in both.
        reference: the (cost, value) that bounds the hypervolume.
        costs: (C,) of the candidates, known.
        means, deviations: (C,) of the candidates' values, normal.
        best: the value below which all are as good as this one.
    """
    last, worst = reference
    inside = [(cost, min(value, worst)) for cost, value in front if cost < last]
    edges = np.array([-np.inf, *(cost for cost, _ in inside), last])
    heights = np.maximum([worst, *(value for _, value in inside)], best)
    widths = np.clip(edges[1:] - np.maximum(edges[:-1], costs[:, None]), 0.0, None)
    gains = _shortfall(heights, means, deviations)
    if np.isfinite(best):
        gains -= _shortfall(np.array([best]), means, deviations)
    return (widths * np.maximum(gains, 0.0)).sum(axis=1)


def hypervolume_error(
    front: Sequence[tuple[float, float]], reference: tuple[float, float], errors: Sequence[float]
) -> float:
    """The standard error of the hypervolume that a front dominates, its values' errors taken as independent.

    Args:
        front, reference: as for `expected_improvement`.
        errors: of the front's values.
    """
    last, worst = reference
    stretches = [
        max(0.0, min(end, last) - cost) * error
        for (cost, value), (end, _), error in zip(front, [*front[1:], reference], errors, strict=False)
        if value < worst
    ]
    return math.hypot(*stretches)


def _shortfall(heights: Array, means: Array, deviations: Array) -> Array:
    """(C, K) the expected max(0, height − value) of normal values (C,) under heights (K,)."""
    z = (heights - means[:, None]) / deviations[:, None]
    return deviations[:, None] * (z * ndtr(z) + np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi))
