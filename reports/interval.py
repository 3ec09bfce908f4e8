"""Values with intervals, and ratios of speeds from interleaved timings."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..backends.ratio import paired_ratio

Timed = tuple[Sequence[float], Sequence[float]]  # seconds, and the full schedule's measured beside each


@dataclass(frozen=True)
class Interval:
    """A value with its two-sided confidence interval; the level stands where it is made."""

    value: float
    lower: float
    upper: float

    def __post_init__(self) -> None:
        assert self.lower <= self.value <= self.upper, self

    def minus(self, offset: float) -> "Interval":
        """The same interval with a constant taken off."""
        return Interval(self.value - offset, self.lower - offset, self.upper - offset)

    def times(self, factor: float) -> "Interval":
        """The same interval in other units; `factor` is positive."""
        return Interval(self.value * factor, self.lower * factor, self.upper * factor)


def relative_speed(timed: Timed, level: float) -> Interval:
    """The speed-up over the full schedule: the median ratio of neighbours in time, as `backends.ratio` bounds it."""
    seconds, neighbours = timed
    ratio = paired_ratio(neighbours, seconds, level)
    return Interval(ratio.value, ratio.lower, ratio.upper)


def ratio_of_speeds(a: Timed, b: Timed, level: float) -> Interval:
    """The speed of a ÷ the speed of b.

    Timings with the very same neighbours were taken in the same rounds, so a and b are neighbours themselves, and are paired.
    Otherwise it is the ratio of their two speed-ups, between the quotients of the bounds that each of them keeps with half
    the error (Bonferroni), so the level holds whatever the two have in common.
    """
    if tuple(a[1]) == tuple(b[1]):
        ratio = paired_ratio(b[0], a[0], level)
        return Interval(ratio.value, ratio.lower, ratio.upper)
    first, second = (relative_speed(timed, 1 - (1 - level) / 2) for timed in (a, b))
    low = first.lower / second.upper
    high = first.upper / second.lower if second.lower > 0 else float("inf")
    return Interval(first.value / second.value, low, high)
