"""Which schedules are measured again on final seeds, and in which order.

Selection saw the search values, so the best of them are too good to be true; only noises that no selection saw can say
how good. A point is worth its images only beside what it competes with: the fastest baseline of equal or better
quality, and the baseline that is just a little worse and a little faster.

A front has an end that is of no use: schedules that are very fast because they hardly denoise. `worst_excess` says
where it begins. Samplers are told what lies beyond as violations of a constraint, and it gets no final images.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from ...backends.errors import StorageError
from ...reports.view.pareto import Score, front, knee
from ...reports.view.standard import EXCESS_LIMIT, NOISE_LIMIT
from ..spaces.candidates import Candidate

# Beyond this many times the full schedule's excess distance no speed makes up for the images: on the bundled
# checkpoint, exit 3 of 12 (2.7 ×) has clothes with ragged edges, and exit 2 (3.5 ×) bags and boots that fall apart.
# With this bound TPE had 1.0, 1.3, 1.6 and 1.6 times the hypervolume within 1.5 × that it has without any, for full
# schedules of 4, 5, 6 and 8 steps of the closed-form network (100 trials, 16 seeds); 4, 5 and 7 × did as well.
WORST_EXCESS = 3.0
# The same where a distance to the baseline's images is stated beside what another noise changes: on the bundled
# checkpoint exit 3 of 12 (2.7 × the excess distance) is at 0.74 of that, exit 4 at 0.59, exit 6 (1.8 ×) at 0.40.
WORST_SHARE = 0.65
# A search value a little beyond the limit may well be within it on other noises.
SLACK = 1.15
# Baselines closer in speed than this are as good as equal.
_MARGIN = 1.02


@dataclass(frozen=True)
class Measured:
    """A candidate after the search.

    Attributes:
        quality: its distance on search seeds.
        excess: what the distance has beyond the floor.
        speed: images a second, predicted from timed calls.
        excess_upper: the upper end of the interval of the excess.
    """

    candidate: Candidate
    quality: float
    excess: float
    speed: float
    excess_upper: float


def worst_excess(measured: Iterable[Measured], noise: float | None = None) -> float:
    """The excess distance beyond which a schedule is worthless; infinite where there is nothing to compare with.

    It is stated on the upper end of the full schedule's interval, so that a network whose samples can hardly be told
    from real images at this count does not make everything else worthless.

    Args:
        measured: in the order in which they were; the first full schedule is what excess is compared with.
        noise: what another noise changes, where that is what excess is compared with.
    """
    whole = WORST_EXCESS * _full(measured).excess_upper if noise is None else WORST_SHARE * noise
    return whole if whole > 0 else math.inf


def violation(measured: Measured, worst: float) -> float:
    """How far a schedule's excess distance is beyond the worst, as a share of that; at most 0 where it is not."""
    return -1.0 if math.isinf(worst) else measured.excess / worst - 1.0


def priorities(measured: Sequence[Measured], noise: float | None = None) -> list[Measured]:
    """All that deserve final seeds, the most deserving first: the front, each point with the baselines it must beat.

    What is beyond the worst excess distance deserves none, but the best trial is there in any case. Arguments are as
    for `worst_excess`.
    """
    full, wanted = _full(measured), _wanted(measured, worst_excess(measured, noise))
    baselines = _of_role(wanted, "baseline")
    trials = _of_role(front(wanted, _score), "trial")
    near = _near(trials, limit(full, noise))
    far = [each for each in trials if each not in near]
    ranked = sorted(near, key=lambda each: -_gain(each, baselines))
    knees = [knee(near, _score)] if near else []
    order = [*ranked[:3], *knees, *ranked[3:], *reversed(far)]
    groups = chain.from_iterable((each, *_rivals(each, baselines)) for each in order)
    # An item is put where it stands first; equal values are equal items.
    return list(dict.fromkeys(chain([full], groups, reversed(front(baselines, _score)))))


def next_rival(
    measured: Sequence[Measured], left: Sequence[tuple[float, Candidate]], noise: float | None = None
) -> Candidate | None:
    """The unmeasured baseline that could be as good as the best trial, and faster than the fastest that is known to be.

    `left` are baselines that were not measured, each with its images a second; the rest is as for `worst_excess`.
    """
    baselines = _of_role(measured, "baseline")
    trials = _near(_of_role(front(measured, _score), "trial"), limit(_full(measured), noise))
    for trial in sorted(trials, key=lambda each: -_gain(each, baselines)):
        known = max((each.speed for each in baselines if each.excess <= trial.excess), default=0.0)
        between = [(speed, candidate) for speed, candidate in left if known * _MARGIN < speed < trial.speed]
        if between:
            # The slowest is the likeliest to be good enough.
            return min(between, key=lambda pair: pair[0])[1]
    return None


def _full(measured: Iterable[Measured]) -> Measured:
    """The full schedule that everything is stated against: the first one."""
    found = next((each for each in measured if each.candidate.family == "full"), None)
    if found is None:
        raise StorageError("storage: no schedule of the study is its full one. Restore the database from a backup.")
    return found


def limit(full: Measured, noise: float | None) -> float:
    """The excess distance up to which people want a schedule; see `worst_excess` for `noise`."""
    return EXCESS_LIMIT * max(0.0, full.excess) if noise is None else NOISE_LIMIT * noise


def _wanted(measured: Sequence[Measured], worst: float) -> list[Measured]:
    """What is not worthless. If all trials are worthless, the one of the best quality stays."""
    wanted = [each for each in measured if each.excess <= worst]
    trials = _of_role(measured, "trial")
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


def _gain(trial: Measured, baselines: Iterable[Measured]) -> float:
    """Its speed ÷ that of the fastest baseline of equal or better quality."""
    rivals = [each.speed for each in baselines if each.excess <= trial.excess]
    return trial.speed / max(rivals) if rivals else math.inf


def _rivals(trial: Measured, baselines: Sequence[Measured]) -> list[Measured]:
    """The fastest baseline that is as good, and the best of the faster ones: other noises may change their order."""
    as_good = [each for each in baselines if each.excess <= trial.excess]
    fastest = max(as_good, key=lambda each: each.speed, default=None)
    faster = [each for each in baselines if each.excess > trial.excess and (not fastest or each.speed > fastest.speed)]
    challenger = min(faster, key=lambda each: each.excess, default=None)
    return [each for each in (fastest, challenger) if each]
