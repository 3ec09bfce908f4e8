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


@dataclass(frozen=True)
class Measured:
    """A candidate after the search.

    Attributes:
        excess: its distance beyond the floor, on search seeds.
        speed: images a second, predicted from timed calls.
    """

    candidate: Candidate
    excess: float
    speed: float

    @property
    def score(self) -> Score:
        """Its place in the plane of the two objectives."""
        return Score(self.excess, self.speed)


def priorities(measured: Sequence[Measured]) -> list[Measured]:
    """All that deserve final seeds, the most deserving first: the front, each point with the baselines it must beat.

    Args:
        measured: the first one is the full schedule that everything is stated against.
    """
    fulls = [each for each in measured if each.candidate.family == "full"]
    baselines = [each for each in measured if each.candidate.role == "baseline"]
    trials = [each for each in front(measured, _score) if each.candidate.role == "trial"]
    near = [each for each in trials if each.excess <= EXCESS_LIMIT * SLACK * max(0.0, measured[0].excess)]
    far = [each for each in trials if each not in near]
    ranked = sorted(near, key=lambda each: -_gain(each, baselines))
    knees = [knee(near, _score)] if near else []
    order = [*ranked[:3], *knees, *ranked[3:], *reversed(far)]
    groups = chain.from_iterable((each, *_rivals(each, baselines)) for each in order)
    # An item is put where it stands first; equal values are equal items.
    return list(dict.fromkeys(chain(fulls, groups, reversed(front(baselines, _score)))))


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
