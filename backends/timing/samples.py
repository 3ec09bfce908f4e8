"""Raw seconds of one measurement, and the ratio of two times that were measured side by side, with an interval that few
repeats can honestly carry.

A machine that slows down for a while slows both members of a pair, so their ratio stays; but what disturbs a single run
(another process, an interrupt) only ever makes it slower, and spoils means. So the value is the median of the ratios.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import Any


@dataclass(frozen=True)
class Timing:
    """Raw repeats of one measurement, in seconds per batch.

    Attributes:
        seconds: one a repeat, in the order in which they were taken.
        batch_size: images a batch.
        neighbours: the baseline's seconds, measured beside each repeat; empty where there is no baseline.
    """

    seconds: tuple[float, ...]
    batch_size: int
    neighbours: tuple[float, ...] = ()

    @property
    def median(self) -> float:
        """The middle repeat: interruptions only ever make a run slower, and would spoil the mean."""
        return median(self.seconds)

    @property
    def images_per_second(self) -> float:
        return self.batch_size / self.median


TIMING_LEVEL = 0.90


@dataclass(frozen=True)
class Ratio:
    """A median of paired ratios and its two-sided interval, which covers the truth with probability `level` or more."""

    value: float
    lower: float
    upper: float
    level: float


def paired_ratio(numerators: Sequence[float], denominators: Sequence[float], level: float = TIMING_LEVEL) -> Ratio:
    """The median of numerators[i] ÷ denominators[i], each pair timed side by side, with its interval.

    Where the pairs suffice (five for 90 %, six for 95 %) the interval goes between two order statistics: with k pairs
    cut off at either end it covers the true median with probability 1 − 2 P(Binomial(n, ½) ≤ k), whatever the noise's
    distribution, and the largest k that keeps the level is taken (David & Nagaraja, Order Statistics, 2003, 7.1).
    Fewer pairs can't reach the level that way: there it is Student's t interval of the logarithms, widened to the
    range. One pair says nothing about its error, and its interval is 0 … ∞.

    Args:
        numerators, denominators: seconds, equally many, at least one, all positive.
        level: probability that the interval covers the truth, between 0 and 1.
    """
    ratios = sorted(a / b for a, b in zip(numerators, denominators, strict=True))
    enough = 2 * 0.5 ** len(ratios) <= 1 - level
    lower, upper = _order_statistics(ratios, level) if enough else _few(ratios, level)
    return Ratio(median(ratios), lower, upper, level)


def _order_statistics(ratios: Sequence[float], level: float) -> tuple[float, float]:
    n, cut, missed = len(ratios), 0, 2 * 0.5 ** len(ratios)
    while (missed := missed + 2 * math.comb(n, cut + 1) * 0.5**n) <= 1 - level:
        cut += 1
    return ratios[cut], ratios[n - 1 - cut]


def _few(ratios: Sequence[float], level: float) -> tuple[float, float]:
    if len(ratios) == 1:
        return 0.0, math.inf
    from scipy.special import stdtrit  # whose import takes a quarter of a second

    logs = [math.log(ratio) for ratio in ratios]
    half = float(stdtrit(len(logs) - 1, (1 + level) / 2)) * stdev(logs) / math.sqrt(len(logs))
    return min(ratios[0], math.exp(fmean(logs) - half)), max(ratios[-1], math.exp(fmean(logs) + half))


Environment = dict[str, Any]  # of a timing; told apart here, where reading a database costs no torch


def environment_digest(described: Environment) -> str:
    """SHA-256 of a description's canonical JSON, in hexadecimal: the same for equal descriptions, in any process."""
    return hashlib.sha256(json.dumps(described, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
