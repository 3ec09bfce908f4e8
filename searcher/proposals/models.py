"""Models of a schedule's excess, and which of them to trust.

Each predicts the logarithm of what a quality has beyond the floor: from predicted vectors (`Composite`), or itself
(`Direct`). Of models of vectors the one is taken whose leave-one-out predictions rank the measured schedules best.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from .descriptions import Descriptions
from .surrogate import Outcomes, Surrogate

Array = NDArray[np.float64]

# Of the trend that `Direct` departs from: what draws its slope to 0, in squared logarithms of cost, and how much worse
# than the trend a schedule is taken to be of which nothing is known, since those that are known were chosen.
SLOPE_PRIOR = 0.3
DOUBT = 0.3


@dataclass(frozen=True)
class Trust:
    """How far a model is to be trusted.

    Attributes:
        model: its name: "mean" or "zero" for the two of vectors, "direct" for that of the quality itself.
        rank_correlation: Kendall's τ between qualities and their leave-one-out predictions.
        num_known: how many trials it learnt from.
    """

    model: str
    rank_correlation: float
    num_known: int


class Model(ABC):
    """Predicts logarithms of excesses.

    Attributes:
        name: see `Trust.model`.
        surrogate: what it predicts them from.
    """

    name: str
    surrogate: Surrogate

    @abstractmethod
    def predict(self, points: Descriptions) -> tuple[Array, Array]:
        """(C,) means and (C,) deviations, of normal logarithms."""

    @abstractmethod
    def leave_one_out(self) -> Array:
        """(N,) the mean for each measured point, predicted from the others."""


class Direct(Model):
    """Predicts the logarithm of the excess itself, as what it departs from a trend: what costs less is worse.

    Args:
        known: N measured points.
        values: (N,) the logarithms of what they have beyond `rest`.
        log_costs: the logarithms of what points cost.
        rest: what all have beyond the floor at least.
        least: the smallest excess that counts, above 0.
        parameters, iterations: as `Surrogate` takes them.
    """

    name = "direct"

    def __init__(
        self,
        known: Descriptions,
        values: Array,
        log_costs: Callable[[Descriptions], Array],
        rest: float,
        least: float,
        parameters: Array | None,
        iterations: int,
    ) -> None:
        self._log_costs, self._rest, self._least = log_costs, rest, least
        costs = log_costs(known)
        self._middle = float(costs.mean())
        away = costs - self._middle
        self._slope = min(0.0, float(away @ values / (away @ away + SLOPE_PRIOR)))
        self._height = float(values.mean()) + DOUBT
        self._trend_of_known = self._trend(known)
        left = (values - self._trend_of_known)[:, None]
        self.surrogate = Surrogate(known, Outcomes(left, np.zeros(1), np.ones(len(values)), 1), parameters, iterations)

    def predict(self, points: Descriptions) -> tuple[Array, Array]:
        found, deviations = self.surrogate.single(*self.surrogate.coordinates(points))
        own = np.exp(found + self._trend(points))
        excess = np.maximum(own + self._rest, self._least)
        return np.log(excess), deviations * np.minimum(own / excess, 1.0)

    def leave_one_out(self) -> Array:
        return self.surrogate.single(*self.surrogate.left_out())[0] + self._trend_of_known

    def _trend(self, points: Descriptions) -> Array:
        return self._height + self._slope * (self._log_costs(points) - self._middle)


class Composite(Model):
    """Predicts vectors, and the logarithm of the excess from them.

    Args:
        name: of the model.
        known: N measured points.
        outcomes: their vectors, completed.
        rest: what the excess has beyond a vector's squared length.
        least: the smallest excess that counts, above 0.
        parameters, iterations: as `Surrogate` takes them.
    """

    def __init__(
        self,
        name: str,
        known: Descriptions,
        outcomes: Outcomes,
        rest: float,
        least: float,
        parameters: Array | None,
        iterations: int,
    ) -> None:
        self.name, self._rest, self._least = name, rest, least
        self.surrogate = Surrogate(known, outcomes, parameters, iterations)

    def predict(self, points: Descriptions) -> tuple[Array, Array]:
        return self._excess(*self.surrogate.coordinates(points))

    def leave_one_out(self) -> Array:
        return self._excess(*self.surrogate.left_out())[0]

    def _excess(self, means: Array, variances: Array) -> tuple[Array, Array]:
        lengths, spread = self.surrogate.squared_lengths(means, variances)
        excess = np.maximum(lengths + self._rest, self._least)
        spread = np.log1p(spread / excess**2)
        return np.log(excess) - spread / 2, np.sqrt(spread)


def completed(vectors: Array, qualities: Array) -> tuple[Array, float]:
    """(N, D + 1) vectors whose squared lengths are the qualities (N,) but for one number, and that number.

    What vectors (N, D) leave out of qualities grows with them: it becomes one coordinate more. Its smallest part, which
    is there in all, stays apart.
    """
    rest = qualities - (vectors**2).sum(axis=1)
    apart = float(rest.min())
    return np.column_stack([vectors, np.sqrt(rest - apart)]), apart


def most_trusted(models: Sequence[Model], values: Array) -> Trust:
    """The model whose leave-one-out predictions rank the measured values (N,) best."""
    return max((trust(each, values) for each in models), key=lambda each: each.rank_correlation)


def trust(model: Model, values: Array) -> Trust:
    """How far a model of the measured values (N,) is to be trusted."""
    return Trust(model.name, _rank_correlation(model.leave_one_out(), values), len(values))


def _rank_correlation(predicted: Array, values: Array) -> float:
    """Kendall's τ between them; 0 where all are alike."""
    statistic: Any = kendalltau(predicted, values)
    found = float(statistic[0])
    return 0.0 if math.isnan(found) else found
