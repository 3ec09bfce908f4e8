"""Which schedules are measured again on final seeds, and in which order.

Selection saw the search values, so the best of them are too good to be true; only noises that no selection saw can say
how good. A point is worth its images only beside what it competes with: the fastest baseline of equal or better
quality, and the baseline that is just a little worse and a little faster.

A front has an end that is of no use: schedules that are very fast because they hardly denoise. `worst_excess` says
where it begins. Samplers are told what lies beyond as violations of a constraint, and it gets no final images.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from ...backends.errors import StorageError
from ...reports.view.guards import NO_FIGURES, NO_GUARDS, GuardFigures, Guards, is_normal
from ...reports.view.pareto import Score, front, knee
from ...reports.view.standard import TO_REFERENCE, Standard
from ..proposals.improvement import Bounds, hypervolume_error
from ..spaces.candidates import Candidate

# A search value a little beyond the limit may well be within it on other noises.
SLACK = 1.15
# Baselines closer in speed than this are as good as equal.
_MARGIN = 1.02
# Of so many trials the baselines that could be as good are measured while the search goes on.
_CONTESTED = 2


@dataclass(frozen=True)
class Measured:
    """A candidate after the search.

    Attributes:
        quality: its distance on search seeds.
        excess: what the distance has beyond the floor.
        speed: images a second, predicted from timed calls.
        excess_upper: the upper end of the interval of the excess.
        figures: what guards judge by.
    """

    candidate: Candidate
    quality: float
    excess: float
    speed: float
    excess_upper: float
    figures: GuardFigures = NO_FIGURES

    @property
    def is_normal(self) -> bool:
        """Whether it is one of those that say what is normal, to which no guard objects."""
        return is_normal(self.candidate.family, self.candidate.stored.num_steps)


@dataclass(frozen=True)
class Yardstick:
    """The values by which a search judges schedules.

    Attributes:
        standard: how quality is stated, with the two ends of loss where they were measured.
        guards: what is normal for images of the study.
    """

    standard: Standard = TO_REFERENCE
    guards: Guards = NO_GUARDS


NO_YARDSTICK = Yardstick()


def yardstick(measured: Iterable[Measured], standard: Standard, nothing: float | None) -> Yardstick:
    """What schedules are judged by, as far as it was measured.

    Args:
        measured: on search seeds.
        standard: how the study states quality.
        nothing: the smallest paired distance of images that show nothing.
    """
    return Yardstick(standard, Guards.of((each.figures for each in measured if each.is_normal), nothing))


def worst_excess(measured: Iterable[Measured], standard: Standard) -> float:
    """The excess distance beyond which a schedule is worthless; infinite where there is nothing to compare with.

    With a bound of three times the full schedule's excess, which is about the same, TPE had 1.0, 1.3, 1.6 and 1.6 times
    the hypervolume within 1.5 × that it has without any, for full schedules of 4, 5, 6 and 8 steps of the closed-form
    network (100 trials, 16 seeds); 4, 5 and 7 × did as well.

    Args:
        measured: in the order in which they were; the first full schedule is what excess is compared with.
        standard: how the study states quality.
    """
    full = _full(measured)
    worst = standard.worst_excess(full.excess, full.excess_upper)
    return worst if worst > 0 else math.inf


# The sampler is after losses up to the first, and takes logarithms of losses beyond the second below none, so that
# small ones count as much as speed. To be better than the full schedule is no gain.
_WORST_SEARCHED, _BELOW = 0.15, 0.03
# Where a goal names a speed, it is after schedules from the first share of it to the second, up to this loss.
_AT_SPEED, _WORST_AT_SPEED = (0.97, 1.15), 0.4


def search_bounds(measured: Iterable[Measured], standard: Standard) -> Bounds | None:
    """What bounds the hypervolume that the sampler `front` is after; None where nothing says what a loss is.

    Args:
        measured, standard: as for `worst_excess`.
    """
    known = list(measured)
    if not any(each.candidate.family == "full" for each in known):
        return None
    full = _full(known)
    unit = standard.unit(full.excess if standard.scale else full.excess_upper)
    if unit is None:
        return None
    floor = full.quality - full.excess
    own, worst = floor + standard.own(full.excess), floor + standard.own(full.excess_upper)
    found = Bounds(worst + _WORST_SEARCHED * unit, full.speed, own - _BELOW * unit, _BELOW * unit)
    goal = standard.goal
    if goal and goal.most_loss is not None:  # what loses far less is as good: it can only be faster
        least = _BELOW + goal.most_loss / 2
        return replace(found, worst=own + SLACK * goal.most_loss * unit, least=least * unit)
    if goal and goal.speedup is not None:
        slowest, fastest = (share * goal.speedup * full.speed for share in _AT_SPEED)
        return replace(found, worst=worst + _WORST_AT_SPEED * unit, slowest=slowest, fastest=fastest)
    return found


def front_error(measured: Iterable[Measured], bounds: Bounds, error: Callable[[Candidate], float]) -> float:
    """The standard error of the hypervolume that the sampler `front` is after.

    Args:
        measured: what is wanted, as far as it was measured.
        bounds: of the hypervolume.
        error: the standard error of a candidate's quality.
    """
    fast = [each for each in measured if each.speed >= bounds.slowest]
    members = front(fast, lambda each: Score(each.quality, min(each.speed, bounds.fastest)))[::-1]
    values = [(-math.log(min(each.speed, bounds.fastest)), bounds.logarithm(each.quality)) for each in members]
    sizes = [max(each.quality - bounds.floor, bounds.least, 1e-12) for each in members]
    own = [error(each.candidate) / size for each, size in zip(members, sizes, strict=True)]
    return hypervolume_error(values, (-math.log(bounds.slowest), bounds.logarithm(bounds.worst)), own)


def violation(measured: Measured, worst: float, guards: Guards = NO_GUARDS) -> float:
    """How far a schedule is in the worthless end of the front, or beyond what guards let pass; at most 0 if it is not.

    It is a share of the worst excess distance, or of what is normal.
    """
    beyond = -1.0 if math.isinf(worst) else measured.excess / worst - 1.0
    vetoed = -1.0 if measured.is_normal else guards.excess(measured.figures)
    return max(beyond, vetoed) if vetoed > 0 else beyond


def priorities(measured: Sequence[Measured], judged: Yardstick = NO_YARDSTICK) -> list[Measured]:
    """All that deserve final seeds, the most deserving first: the front, each point with the baselines it must beat.

    What is beyond the worst excess distance deserves none, nor what a guard objects to; the best trial that none
    objects to is there in any case. The first full schedule is what excess is compared with.
    """
    full, wanted = _full(measured), _wanted(measured, judged)
    baselines = _of_role(wanted, "baseline")
    trials = _of_role(front(wanted, _score), "trial")
    near = _near(trials, limit(full, judged.standard))
    if (goal := judged.standard.goal) and goal.speedup is not None:
        low, high = (share * goal.speedup * full.speed for share in _AT_SPEED)
        near = [each for each in trials if low <= each.speed <= high] or near
    far = [each for each in trials if each not in near]
    ranked = sorted(near, key=lambda each: -_gain(each, baselines, full))
    knees = [knee(near, _score)] if near else []
    order = [*ranked[:3], *knees, *ranked[3:], *reversed(far)]
    groups = chain.from_iterable((each, *_rivals(each, baselines, full)) for each in order)
    # An item is put where it stands first; equal values are equal items.
    return list(dict.fromkeys(chain([full], groups, reversed(front(baselines, _score)))))


def next_rival(
    measured: Sequence[Measured], left: Sequence[tuple[float, Candidate]], judged: Yardstick = NO_YARDSTICK
) -> Candidate | None:
    """The unmeasured baseline that could be as good as the best trial, and faster than the fastest that is known to be.

    `left` are baselines that were not measured, each with its images a second; the rest is as for `priorities`.
    """
    full, baselines = _full(measured), _of_role(measured, "baseline")
    trials = _near(_of_role(front(measured, _score), "trial"), limit(full, judged.standard))
    for trial in sorted(trials, key=lambda each: -_gain(each, baselines, full))[:_CONTESTED]:
        known = max((each.speed for each in baselines if _is_as_good(each, trial, full)), default=0.0)
        between = [(speed, candidate) for speed, candidate in left if known * _MARGIN < speed < trial.speed]
        if between:
            # In the middle, by ratio: whether it is as good or not, half of those that are left are settled.
            middle = math.sqrt(max(known, min(speed for speed, _ in between)) * trial.speed)
            return min(between, key=lambda pair: abs(math.log(pair[0] / middle)))[1]
    return None


def _is_as_good(baseline: Measured, trial: Measured, full: Measured) -> bool:
    """Whether its quality equals a trial's or is better; to be better than the full schedule is no gain."""
    return baseline.excess <= max(trial.excess, full.excess)


def _full(measured: Iterable[Measured]) -> Measured:
    """The full schedule that everything is stated against: the first one."""
    found = next((each for each in measured if each.candidate.family == "full"), None)
    if found is None:
        raise StorageError(
            "storage: the study must have its full schedule, but has none. Restore the database from a backup."
        )
    return found


def limit(full: Measured, standard: Standard) -> float:
    """The excess distance up to which people want a schedule."""
    return standard.limit_excess(max(0.0, full.excess)) or 0.0


def _wanted(measured: Sequence[Measured], judged: Yardstick) -> list[Measured]:
    """What is neither worthless nor vetoed. If all trials are worthless, the one of the best quality stays."""
    worst, guards = worst_excess(measured, judged.standard), judged.guards
    usable = [each for each in measured if each.is_normal or guards.excess(each.figures) <= 0]
    wanted = [each for each in usable if each.excess <= worst]
    trials = _of_role(usable, "trial")
    if trials and not _of_role(wanted, "trial"):
        wanted.append(min(trials, key=lambda each: each.excess))
    return wanted


def _of_role(measured: Iterable[Measured], role: str) -> list[Measured]:
    return [each for each in measured if each.candidate.role == role]


def _near(trials: Iterable[Measured], most: float) -> list[Measured]:
    """The trials that may turn out to be within the limit."""
    return [each for each in trials if each.excess <= SLACK * most]


def _score(measured: Measured) -> Score:
    """Its place in the plane of the two objectives."""
    return Score(measured.excess, measured.speed)


def _gain(trial: Measured, baselines: Iterable[Measured], full: Measured) -> float:
    """Its speed ÷ that of the fastest baseline of equal or better quality."""
    rivals = [each.speed for each in baselines if _is_as_good(each, trial, full)]
    return trial.speed / max(rivals) if rivals else math.inf


def _rivals(trial: Measured, baselines: Sequence[Measured], full: Measured) -> list[Measured]:
    """What other noises may show to be as good: the fastest baseline that is, the best of the faster ones, and the one
    that is next in speed, such as the same number of steps at full depth."""
    as_good = [each for each in baselines if _is_as_good(each, trial, full)]
    fastest = max(as_good, key=lambda each: each.speed, default=None)
    worse = [each for each in baselines if not _is_as_good(each, trial, full)]
    faster = [each for each in worse if not fastest or each.speed > fastest.speed]
    challenger = min(faster, key=lambda each: each.excess, default=None)
    slower = [each for each in front(baselines, _score) if each.speed <= _MARGIN * trial.speed]
    next_in_speed = max(slower, key=lambda each: each.speed, default=None)
    return [each for each in (fastest, challenger, next_in_speed) if each]
