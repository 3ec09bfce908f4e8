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
    """

    worst: float
    slowest: float
    floor: float = 0.0
    least: float = 0.0

    def logarithm(self, quality: float) -> float:
        """The logarithm of what a quality has beyond the floor."""
        return math.log(max(quality - self.floor, self.least, 1e-12))


def non_dominated(costs: Array, values: Array) -> list[int]:
    """Indices of the points that no other one dominates, by rising cost; lower is better in both."""
    best, found = np.inf, list[int]()
    for index in np.lexsort((values, costs)):
        if values[index] < best:
            best = values[index]
            found.append(int(index))
    return found


def expected_improvement(
    front: Sequence[tuple[float, float]], reference: tuple[float, float], costs: Array, means: Array, deviations: Array
) -> Array:
    """(C,) the expected gain in hypervolume of each candidate.

    Args:
        front: (cost, value) of the front, by rising cost; lower is better in both.
        reference: the (cost, value) that bounds the hypervolume.
        costs: (C,) of the candidates, known.
        means, deviations: (C,) of the candidates' values, normal.
    """
    last, worst = reference
    inside = [(cost, min(value, worst)) for cost, value in front if cost < last]
    edges = np.array([-np.inf, *(cost for cost, _ in inside), last])
    heights = np.array([worst, *(value for _, value in inside)])
    widths = np.clip(edges[1:] - np.maximum(edges[:-1], costs[:, None]), 0.0, None)
    z = (heights - means[:, None]) / deviations[:, None]
    gains = deviations[:, None] * (z * ndtr(z) + np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi))
    return (widths * gains).sum(axis=1)


def hypervolume(points: Sequence[tuple[float, float]], reference: tuple[float, float]) -> float:
    """The area that points (cost, value) dominate within the reference; lower is better in both."""
    inside = [(cost, value) for cost, value in points if cost < reference[0] and value < reference[1]]
    if not inside:
        return 0.0
    found = np.array(inside)
    front = found[non_dominated(found[:, 0], found[:, 1])]
    widths = np.diff(np.append(front[:, 0], reference[0]))
    return float((widths * (reference[1] - front[:, 1])).sum())
