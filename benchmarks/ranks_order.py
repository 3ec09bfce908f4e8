"""How well one order of schedules agrees with another: Kendall's τ, how sure it is, and where it matters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Agreement:
    """Kendall's τ of a metric with the truth.

    Attributes:
        tau: over all pairs of schedules, the mean of the draws.
        error: its standard error, from resampled schedules.
        behind: τ of the default metric minus this one, with its interval, from the same resampled schedules.
    """

    tau: float
    error: float
    behind: tuple[float, float, float]

    @property
    def words(self) -> str:
        """`0.912 ± 0.013  +0.020 [+0.001, +0.041]`."""
        difference, low, high = self.behind
        return f"{self.tau:.3f} ± {self.error:.3f}  {difference:+.3f} [{low:+.3f}, {high:+.3f}]"

    @property
    def rounded(self) -> dict[str, Any]:
        """The same for JSON."""
        return {
            "tau": round(self.tau, 3),
            "error": round(self.error, 3),
            "behind": [round(each, 3) for each in self.behind],
        }


def agreements(values: Mapping[str, Array], truth: Array, default: str, seed: int = 0) -> dict[str, Agreement]:
    """The agreement of each metric.

    Args:
        values: (draws, n) of each metric, lower is better.
        truth: (n,) lower is better.
        default: which of them the others are compared with.
        seed: of the resampling.
    """
    n = len(truth)
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(float)
    weights = np.vstack([np.ones(n), weights])  # the first row is the schedules as they are
    taus = {name: np.mean([kendall(draw, truth, weights) for draw in each], axis=0) for name, each in values.items()}
    tail = 100 * (1 - LEVEL) / 2
    found: dict[str, Agreement] = {}
    for name, each in taus.items():
        behind = taus[default] - each
        low, high = np.percentile(behind[1:], [tail, 100 - tail])
        found[name] = Agreement(float(each[0]), float(each[1:].std()), (float(behind[0]), float(low), float(high)))
    return found


def kendall(a: Array, b: Array, weights: Array) -> Array:
    """(r,) Kendall's τ of a and b, (n,), with schedules that count so often, (r, n): a schedule and itself are no pair.

    Pairs that are equal in either count as neither.
    """
    signs = np.sign(a[:, None] - a) * np.sign(b[:, None] - b)
    pairs = weights.sum(axis=1) ** 2 - (weights**2).sum(axis=1)
    return np.einsum("ri,ij,rj->r", weights, signs, weights, optimize=True) / pairs


def front_losses(costs: Sequence[float], losses: Array) -> Array:
    """(n,) the least loss among the schedules that cost as much as each, or less."""
    cost = np.asarray(costs, float)
    return np.array([losses[cost <= each].min() for each in cost])
