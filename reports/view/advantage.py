"""How much faster a searched schedule is than the best simple one of its quality: `best_ratio` and its bound."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from .interval import Interval

_T = TypeVar("_T")


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
