"""A schedule of any speed, between two measured members of a front: `exeunt export --at 1.7x`.

Numbers of steps, times and depths are taken between those of the slower and the faster member. Single blocks then bring
the predicted time to the one that is wanted. What comes out was not measured.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ...backends.errors import InputError
from ...backends.schedule import Schedule
from ...reports.view import view as views
from ...reports.view.pareto import front
from ..spaces.free import Free, Point
from ..spaces.nearest import nearest
from .descriptions import CostModel, describe


@dataclass(frozen=True)
class Interpolated:
    """A schedule that was not measured, with what is expected of it.

    Attributes:
        speedup: predicted, over the full schedule.
        slower, faster: the measured points that it lies between.
    """

    schedule: Schedule
    speedup: float
    slower: views.Point
    faster: views.Point


def interpolated(view: views.StudyView, space: Free, weights: str, wanted: float) -> Interpolated:
    """The schedule of a wanted speed-up between two members of the front on some weights.

    Raises InputError: no two members lie around that speed-up.
    """
    measured = [
        each for each in view.measured("final") if each.weights == weights and not view.objections(each, "final")
    ]
    members = [(each, views.known(view.speedup(each), each).value) for each in front(measured, view.score("final"))]
    slower = [pair for pair in members if pair[1] <= wanted]
    faster = [pair for pair in members if pair[1] >= wanted]
    if not slower or not faster:
        low, high = (members[0][1], members[-1][1]) if members else (1.0, 1.0)
        raise InputError(
            f"--at: must be between the ends of the front on {weights}, {low:.2f}x and {high:.2f}x, but got "
            f"{wanted:g}x. Choose a speed in between, or search further with `exeunt resume`."
        )
    (a, speed_a), (b, speed_b) = slower[-1], faster[0]
    share = math.log(wanted / speed_a) / math.log(speed_b / speed_a) if speed_b > speed_a else 0.0
    seconds = _predictor(view, space, weights)
    ends = _point(space, a), _point(space, b)
    # What end-to-end timings say beyond the sum of calls, at the two ends and in between.
    factors = [speed * seconds(end) for speed, end in zip((speed_a, speed_b), ends, strict=True)]
    factor = factors[0] ** (1 - share) * factors[1] ** share
    found = between(space, *ends, share, lambda point: math.log(seconds(point) * wanted / factor))
    return Interpolated(space.schedule(found), factor / seconds(found), a, b)


def between(space: Free, slower: Point, faster: Point, share: float, too_slow: Callable[[Point], float]) -> Point:
    """The point at a share of the way, with single blocks more or fewer so that it takes the time that is wanted.

    Args:
        share: 0 is the slower one, 1 the faster.
        too_slow: the logarithm of a point's time over the wanted one.
    """
    ends, nearer = (slower, faster), (slower, faster)[share > 0.5]
    counts = [math.log(each.num_steps) * weight for each, weight in zip(ends, (1 - share, share), strict=True)]
    made = space.frame.num_made(min(max(round(math.exp(sum(counts))), space.fewest_steps), space.most_steps))
    places = _blend([each.positions for each in ends], share, space.frame.num_intervals(made) + 1)
    even = all(len(set(each.gaps)) == 1 for each in ends) or not space.times_free
    gaps = tuple(1.0 if even else after - before for before, after in pairwise(places))
    real = _blend([each.depths for each in ends], share, made)
    kept = [round(i * (nearer.num_steps - 1) / max(1, made - 1)) for i in range(made)]
    tails, orders = tuple(nearer.tails[s] for s in kept), tuple(nearer.orders[s] for s in kept)

    def point(depths: Sequence[int]) -> Point:
        return Point(gaps, tuple(depths), tails, orders, nearer.levers)

    depths = [space.depth_near(each) for each in real]
    best, sign = point(depths), too_slow(point(depths))
    while sign * (now := too_slow(point(depths))) > 0:
        best = min(best, point(depths), key=lambda each: abs(too_slow(each)))
        step = _next_step(space, depths, real, space.small_steps(best), deeper=now < 0)
        if step is None:
            break
        depths[step[0]] = step[1]
    return min(best, point(depths), key=lambda each: abs(too_slow(each)))


def _next_step(
    space: Free, depths: Sequence[int], real: Sequence[float], first: int, *, deeper: bool
) -> tuple[int, int] | None:
    """The step whose depth is to change next, from the first on that has one, and its new depth: the one that leaves
    the blend least."""
    found: list[tuple[float, int, int]] = []
    for s, depth in list(enumerate(depths))[first:]:
        more = [each for each in space.depths if each > depth] if deeper else []
        fewer = [each for each in space.depths if each < depth] if not deeper else []
        if more or fewer:
            new = more[0] if more else fewer[-1]
            found.append((abs(new - real[s]), s, new))
    return min(found)[1:] if found else None


def _blend(lines: Sequence[Sequence[float]], share: float, count: int) -> list[float]:
    """So many values between two lines, each read off at even places."""
    where = np.linspace(0.0, 1.0, count)
    first, second = (np.interp(where, np.linspace(0.0, 1.0, len(line)), line) for line in lines)
    return ((1 - share) * first + share * second).tolist()


def _point(space: Free, measured: views.Point) -> Point:
    found = nearest(space, measured.schedule)
    assert found is not None, "a point of this study"
    return space.point(found.parameters)


def _predictor(view: views.StudyView, space: Free, weights: str) -> Callable[[Point], float]:
    """Seconds a batch, from those of all schedules that were measured on the weights."""
    known = [each for each in view.points if each.weights == weights and each.predicted_seconds]
    points = [_point(space, each) for each in known]
    seconds = np.array([each.predicted_seconds for each in known])
    model = CostModel.fit(describe(space, points).work, seconds)
    return lambda point: float(model.costs(describe(space, [point]).work)[0])
