"""Pareto fronts of two objectives: quality (a distance, lower is better) and speed (higher is better).

The advantage of a searched schedule: how much faster it is than the best simple one of its quality. How sure a front
is: the probability of each member, and what cannot be told apart.

Pure functions over values: no torch, no database. Items of any type come with a `score` function, as `sorted` takes a
`key`.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from .interval import Interval

_T = TypeVar("_T")


@dataclass(frozen=True)
class Score:
    """One schedule's two objectives: `quality`, a distance (lower is better); `speed`, positive (higher is better)."""

    quality: float
    speed: float

    def __post_init__(self) -> None:
        assert math.isfinite(self.quality), self
        assert math.isfinite(self.speed), self
        assert self.speed > 0, self


@dataclass(frozen=True)
class FrontProgress:
    """The hypervolume reached once `cost` (images or seconds, running total) was spent."""

    cost: float
    hypervolume: float


def front(items: Iterable[_T], score: Callable[[_T], Score]) -> list[_T]:
    """The items that no other item dominates, slowest (and best in quality) first.

    Items of equal score stand or fall together, as in `optuna.Study.best_trials`.
    """
    kept: list[_T] = []
    best: Score | None = None
    for item in sorted(items, key=lambda item: (-score(item).speed, score(item).quality)):
        if best is None or score(item).quality < best.quality or score(item) == best:
            kept.append(item)
            best = score(item)
    return kept[::-1]


def knee(items: Sequence[_T], score: Callable[[_T], Score]) -> _T:
    """The front's item farthest from the line between the front's ends, in log quality and log time, on the good side.

    Which item is farthest does not depend on the axes' scales or the logarithm's base. A front whose inner items all
    lie on the line or beyond it has its knee at the end with the better quality. Where a distance is not positive
    (unbiased kernel distances near their floor), quality enters as it is, without the logarithm.

    `items` need not be a front yet, and must not be empty.
    """
    candidates = front(items, score)
    logarithmic = all(score(item).quality > 0 for item in candidates)
    places = [
        (math.log(found.speed), math.log(found.quality) if logarithmic else found.quality)
        for found in map(score, candidates)
    ]
    (x0, y0), (x1, y1) = places[0], places[-1]
    gains = [(x - x0) * (y1 - y0) - (y - y0) * (x1 - x0) for x, y in places]
    return candidates[gains.index(max(gains))]


def hypervolume(scores: Iterable[Score], reference: Score) -> float:
    """The area (quality × speed) that `scores` dominate within the corner that `reference` bounds.

    Only what is better than the reference point in both objectives counts, so adding a score never lowers it.
    """
    better = [score for score in scores if score.quality < reference.quality and score.speed > reference.speed]
    area, speed = 0.0, reference.speed
    for score in front(better, lambda score: score):
        area += (score.speed - speed) * (reference.quality - score.quality)
        speed = score.speed
    return area


def hypervolume_over_cost(spent: Iterable[tuple[float, Score | None]], reference: Score) -> list[FrontProgress]:
    """The running hypervolume, one entry for each (cost of this evaluation, its score) in the order they were finished.

    A score of None (a failed evaluation) costs and gains nothing. Costs are what each evaluation took; entries carry
    totals.
    """
    kept, area, total, progress = list[Score](), 0.0, 0.0, list[FrontProgress]()
    for cost, score in spent:
        total += cost
        if score is not None:
            # Only a score that enters the front so far costs more than a bisection.
            place = bisect_left(kept, score.speed, key=lambda each: each.speed)
            if place == len(kept) or kept[place].quality > score.quality:
                kept = front([*kept, score], lambda each: each)
                area = hypervolume(kept, reference)
        progress.append(FrontProgress(total, area))
    return progress


Array = NDArray[np.float64]
DRAWS = 1000  # a probability is sure to 1.6 %
_OUT_OF_REACH = 4.0  # standard errors


@dataclass(frozen=True, eq=False)
class Uncertain:
    """One objective of several items, normal.

    Attributes:
        values: (N,).
        errors: (N,) standard errors; 0 for what counts as known.
        apart: those of value i − value j, where both were measured side by side, by (i, j).
    """

    values: Array
    errors: Array
    apart: Mapping[tuple[int, int], float]

    def draws(self, random: np.random.Generator) -> Array:
        """(DRAWS, N), or (1, N) where all is known. What a difference varies by says how two values go together."""
        if not self.errors.any():
            return self.values[None]
        normal = random.standard_normal((DRAWS, len(self.values)))
        found = self.values + self.errors * normal
        paired = sorted({i for pair in self.apart for i in pair})
        place = {i: row for row, i in enumerate(paired)}
        covariance = np.diag(self.errors[paired] ** 2)
        for (i, j), error in self.apart.items():
            together, most = (self.errors[i] ** 2 + self.errors[j] ** 2 - error**2) / 2, self.errors[i] * self.errors[j]
            at = [place[i], place[j]], [place[j], place[i]]
            covariance[at] = np.clip(together, -most, most)
        sizes, axes = np.linalg.eigh(covariance)
        found[:, paired] = self.values[paired] + normal[:, paired] @ (axes * np.sqrt(np.maximum(sizes, 0.0))).T
        return found

    def same(self, i: int, errors: float) -> NDArray[np.bool_]:
        """(N,) whether each value differs from value i by no more than so many standard errors of the difference."""
        between = np.hypot(self.errors, self.errors[i])
        for j in range(len(self.values)):
            between[j] = self.apart.get((i, j), self.apart.get((j, i), between[j]))
        return np.abs(self.values - self.values[i]) <= errors * between


def front_probabilities(members: Sequence[int], quality: Uncertain, speed: Uncertain) -> list[float]:
    """The probability that each member is dominated by no other item: the share of draws, which are always the same."""
    random = np.random.default_rng(0)
    qualities, speeds = quality.draws(random), speed.draws(random)
    reach = _OUT_OF_REACH * quality.errors, _OUT_OF_REACH * speed.errors
    found: list[float] = []
    for i in members:
        good = quality.values - reach[0] <= quality.values[i] + reach[0][i]
        near = good & (speed.values + reach[1] >= speed.values[i] - reach[1][i])
        near[i] = False
        worse, slower = qualities[:, near] - qualities[:, [i]], speeds[:, [i]] - speeds[:, near]
        dominates = (worse <= 0) & (slower <= 0) & ((worse < 0) | (slower < 0))
        found.append(float((~dominates.any(axis=1)).mean()))
    return found


@dataclass(frozen=True)
class Advantage(Generic[_T]):
    """One point against the baselines.

    `ratio` is the point's speed ÷ the speed of `baseline`, the fastest baseline of equal or better quality. `lower`
    is the lowest lower bound of that ratio over all baselines that are not significantly worse than the point in
    quality; `contender` is the baseline it was reached against.
    """

    point: _T
    baseline: _T
    ratio: float
    contender: _T
    lower: float


def advantage(
    point: _T,
    baselines: Sequence[_T],
    *,
    quality: Callable[[_T], float],
    speed_ratio: Callable[[_T, _T], Interval],
    significantly_worse: Callable[[_T, _T], bool],
) -> Advantage[_T]:
    """Compares a point with the baselines by final values at equal counts (a list that is not empty).

    `quality` is a distance. `speed_ratio(a, b)` is the speed of a ÷ the speed of b, from end-to-end timings that are
    neighbours in time. `significantly_worse(b, a)` says whether the 95 % paired interval of quality(b) − quality(a),
    on the same noises, lies above zero.

    Where every baseline is worse than the point, the comparison is with the baseline of the best quality: a stand-in
    that the point beats in quality as well.
    """
    equal_or_better = [baseline for baseline in baselines if quality(baseline) <= quality(point)]
    rivals = equal_or_better or [min(baselines, key=quality)]
    fastest = min(rivals, key=lambda baseline: speed_ratio(point, baseline).value)
    plausible = [*rivals, *(baseline for baseline in baselines if not significantly_worse(baseline, point))]
    contender = min(plausible, key=lambda baseline: speed_ratio(point, baseline).lower)
    return Advantage(point, fastest, speed_ratio(point, fastest).value, contender, speed_ratio(point, contender).lower)


def best(advantages: Sequence[Advantage[_T]]) -> Advantage[_T] | None:
    """The point with the largest lower bound (its `ratio` is `best_ratio`, its `lower` `best_ratio_lower`), or None.

    The largest ratio would be the wrong choice: a point that is a hair better than all fast baselines is compared with
    a slow one. (Seen: 4.08, at least 0.98, beside a point with 1.74, at least 1.65.)
    """
    return max(advantages, key=lambda entry: entry.lower, default=None)
