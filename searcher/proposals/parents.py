"""The front of what was measured, and which of its members to vary."""

from collections.abc import Sequence
from random import Random

import numpy as np
from numpy.typing import NDArray

from ...reports.view.pareto import Score, front
from ..spaces.free import Point

Array = NDArray[np.float64]


class Front:
    """The non-dominated (time, value) of what was measured, by rising time, in logarithms; lower is better in both.

    Attributes:
        indices: of the non-dominated among the measured.
        reference: the (time, value) that bounds the hypervolume.
    """

    def __init__(self, times: Array, values: Array, reference: tuple[float, float]) -> None:
        self.indices = front(range(len(times)), lambda i: Score(float(values[i]), float(np.exp(-times[i]))))[::-1]
        self.times, self.values, self.reference = times, values, reference

    @property
    def members(self) -> list[tuple[float, float]]:
        return [(float(self.times[i]), float(self.values[i])) for i in self.indices]

    def with_those(self, times: Array, values: Array) -> "Front":
        """The front of these too."""
        return Front(np.append(self.times, times), np.append(self.values, values), self.reference)


class Parents:
    """Whom to vary: members of the front, by the gap that they leave, and now and then one of the best."""

    def __init__(self, points: Sequence[Point], front: Front, generator: Random) -> None:
        self._random = generator
        last, worst = front.reference
        members = [i for i in front.indices if front.values[i] < worst] or front.indices
        self._members = [points[i] for i in members] or list(points)
        times = np.array([front.times[i] for i in members])
        if len(times):
            before = np.append(times[0] - 0.3, times[:-1])
            after = np.append(times[1:], min(last, times[-1] + 0.5))
            gaps = np.maximum(after - before, 0.0) + 0.05
        else:
            gaps = np.ones(len(self._members))
        self._shares = np.cumsum(gaps).tolist()
        nearest = np.argsort(front.values)[:3] if len(front.values) else []
        self._nearest = [points[i] for i in nearest] or self._members

    def pick(self) -> Point:
        """One of them, at random."""
        if self._random.random() < 0.1:
            return self._random.choice(self._nearest)
        return self._random.choices(self._members, cum_weights=self._shares)[0]
