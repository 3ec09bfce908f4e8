"""Values with intervals, ratios of speeds from interleaved timings, and numbers as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...backends.timing.samples import Ratio, paired_ratio

if TYPE_CHECKING:
    from ...backends.quality.intervals import Estimate
    from ...studies.store.records import QualityRecord


def spelled_number(value: float) -> str:
    """A number as people write it: three significant digits, thousands set apart, no exponent for common sizes."""
    if value == 0 or not 1e-4 <= abs(value) < 1e7:
        return f"{value:.3g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{digits}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace(",", " ").replace("-", "−")


_WIDEST = 2.0
Timed = tuple[Sequence[float], Sequence[float]]  # seconds, and the full schedule's measured beside each


@dataclass(frozen=True)
class Interval:
    """A value with its two-sided confidence interval; the level stands where it is made."""

    value: float
    lower: float
    upper: float

    def __post_init__(self) -> None:
        assert self.lower <= self.value <= self.upper, self

    @classmethod
    def of(cls, found: Ratio | Estimate | QualityRecord) -> Interval:
        """What was worked out or stored, without the rest."""
        return cls(found.value, found.lower, found.upper)

    @property
    def ends(self) -> tuple[float, float]:
        """Both bounds."""
        return self.lower, self.upper

    @property
    def width(self) -> float:
        return self.upper - self.lower

    @property
    def log_width(self) -> float:
        """That of the logarithm; 2 at most, which a single timing has, whose interval is unbounded."""
        bounded = self.lower > 0 and self.upper < math.inf
        return min(math.log(self.upper / self.lower), _WIDEST) if bounded else _WIDEST

    def minus(self, offset: float) -> Interval:
        """The same interval with a constant taken off."""
        return Interval(self.value - offset, self.lower - offset, self.upper - offset)

    def times(self, factor: float) -> Interval:
        """The same interval in other units; `factor` is positive."""
        return Interval(self.value * factor, self.lower * factor, self.upper * factor)


def places(interval: Interval | None) -> int:
    """The decimal places that show three digits of a value, or one digit of its interval where that is wide."""
    if interval is None:
        return 1
    size = max(abs(interval.value), (interval.upper - interval.lower) / 20)
    return max(0, 2 - math.floor(math.log10(size))) if size > 0 else 1


def spelled(interval: Interval) -> str:
    """`123 [98, 151]` or `0.0012 [0.0009, 0.0016]`: as many places for the interval as for its value."""
    digits = places(interval)
    return f"{interval.value:.{digits}f} [{interval.lower:.{digits}f}, {interval.upper:.{digits}f}]"


def per_second(speed: float) -> str:
    """Images a second as people read them: `48.3`, and three digits of slow networks, `0.0521`."""
    return f"{speed:.1f}" if speed >= 10 else f"{speed:.3g}"


@dataclass(frozen=True)
class SpeedUnit:
    """How a study states speed: images a second, or for latency the milliseconds of one batch.

    Inside, a speed is always images a second, so that more is better and ratios are speed-ups.
    """

    batch_size: int = 1
    is_latency: bool = False

    @property
    def short(self) -> str:
        return "ms" if self.is_latency else "images/s"

    @property
    def per(self) -> str:
        """What a time is of."""
        return "image" if self.batch_size == 1 else f"batch of {self.batch_size}"

    @property
    def axis(self) -> str:
        """What an axis is called."""
        return f"ms per {self.per} (lower is better)" if self.is_latency else "images per second"

    def of(self, speed: float) -> float:
        """Images a second in this unit, and back."""
        return 1000 * self.batch_size / speed if self.is_latency else speed

    def number(self, speed: float) -> str:
        return per_second(self.of(speed))

    def text(self, speed: float) -> str:
        return f"{self.number(speed)} {self.short}"


def relative_speed(timed: Timed, level: float) -> Interval:
    """The speed-up over the full schedule: the median ratio of neighbours in time, as `paired_ratio` bounds it."""
    seconds, neighbours = timed
    return Interval.of(paired_ratio(neighbours, seconds, level))


def ratio_of_speeds(a: Timed, b: Timed, level: float, same_rounds: bool = False) -> Interval:
    """The speed of a ÷ the speed of b.

    With `same_rounds` (repeat r of both was taken in one round) they are neighbours themselves, and are paired.
    Otherwise it is the ratio of their two speed-ups, between the quotients of the bounds that each of them keeps with
    half the error (Bonferroni), so the level holds whatever the two have in common. The full schedule is b's own
    neighbour.
    """
    if tuple(b[0]) == tuple(b[1]):
        return relative_speed(a, level)
    if same_rounds and len(a[0]) == len(b[0]):
        return Interval.of(paired_ratio(b[0], a[0], level))
    first, second = (relative_speed(timed, 1 - (1 - level) / 2) for timed in (a, b))
    low = first.lower / second.upper
    high = first.upper / second.lower if second.lower > 0 else float("inf")
    return Interval(first.value / second.value, low, high)
