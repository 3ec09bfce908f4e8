"""Which schedules are measured again on final seeds, and in which order they deserve it.

Selection saw the search values, so the best of them are too good to be true; only noises that no selection saw can say
how good. A point is worth its images only beside what it competes with: the fastest baseline of equal or better
quality, and the baseline that is just a little worse and a little faster.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from ..reports.pareto import Score, front, knee
from .candidates import Candidate

# Points up to this many times the full schedule's excess distance are what most people come for.
EXCESS_LIMIT = 1.5
# A search value a little beyond the limit may well be within it on other noises.
SLACK = 1.15
# Baselines closer in speed than this are as good as equal.
MARGIN = 1.02


@dataclass(frozen=True)
class Measured:
    """A candidate after the search.

    Attributes:
        quality: its distance on search seeds.
        excess: what the distance has beyond the floor.
        speed: images a second, predicted from timed calls.
    """

    candidate: Candidate
    quality: float
    excess: float
    speed: float

    @property
    def score(self) -> Score:
        """Its place in the plane of the two objectives."""
        return Score(self.excess, self.speed)


def priorities(measured: Sequence[Measured]) -> list[Measured]:
    """All that deserve final seeds, the most deserving first: the front, each point with the baselines it must beat.

    Args:
        measured: in the order in which they were; the first full schedule is what excess is compared with.
    """
    full, baselines = _full(measured), _baselines(measured)
    trials = [each for each in front(measured, _score) if each.candidate.role == "trial"]
    near = _near(trials, full)
    far = [each for each in trials if each not in near]
    ranked = sorted(near, key=lambda each: -_gain(each, baselines))
    knees = [knee(near, _score)] if near else []
    order = [*ranked[:3], *knees, *ranked[3:], *reversed(far)]
    groups = chain.from_iterable((each, *_rivals(each, baselines)) for each in order)
    # An item is put where it stands first; equal values are equal items.
    return list(dict.fromkeys(chain([full], groups, reversed(front(baselines, _score)))))


def next_rival(measured: Sequence[Measured], left: Sequence[tuple[float, Candidate]]) -> Candidate | None:
    """The unmeasured baseline that could be as good as the best trial, and faster than the fastest that is known to be.

    Args:
        measured: in the order in which they were; the first full schedule is what excess is compared with.
        left: baselines that were not measured, each with its images a second.
    """
    baselines = _baselines(measured)
    trials = _near([each for each in front(measured, _score) if each.candidate.role == "trial"], _full(measured))
    for trial in sorted(trials, key=lambda each: -_gain(each, baselines)):
        known = max((each.speed for each in baselines if each.excess <= trial.excess), default=0.0)
        between = [(speed, candidate) for speed, candidate in left if known * MARGIN < speed < trial.speed]
        if between:
            # The slowest is the likeliest to be good enough.
            return min(between, key=lambda pair: pair[0])[1]
    return None


def _full(measured: Iterable[Measured]) -> Measured:
    """The full schedule that everything is stated against: the first one."""
    return next(each for each in measured if each.candidate.family == "full")


def _baselines(measured: Iterable[Measured]) -> list[Measured]:
    return [each for each in measured if each.candidate.role == "baseline"]


def _near(trials: Iterable[Measured], full: Measured) -> list[Measured]:
    """The trials that may turn out to be within the limit."""
    return [each for each in trials if each.excess <= EXCESS_LIMIT * SLACK * max(0.0, full.excess)]


def _score(measured: Measured) -> Score:
    return measured.score


def _gain(trial: Measured, baselines: Iterable[Measured]) -> float:
    """Its speed ÷ that of the fastest baseline of equal or better quality."""
    rivals = [each.speed for each in baselines if each.excess <= trial.excess]
    return trial.speed / max(rivals) if rivals else math.inf


def _rivals(trial: Measured, baselines: Sequence[Measured]) -> list[Measured]:
    """The fastest baseline that is as good, and the best of those that are faster: other noises may turn them round."""
    as_good = [each for each in baselines if each.excess <= trial.excess]
    fastest = max(as_good, key=lambda each: each.speed, default=None)
    faster = [each for each in baselines if each.excess > trial.excess and (not fastest or each.speed > fastest.speed)]
    challenger = min(faster, key=lambda each: each.excess, default=None)
    return [each for each in (fastest, challenger) if each]
