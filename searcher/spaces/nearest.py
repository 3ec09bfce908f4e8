"""The nearest point of the space `free` to a schedule from elsewhere: another number of steps, network or noise."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from ...backends.schedule import RUN, Action, Schedule, branches_at
from ...backends.solvers.noise_schedules import marginal_at
from ...backends.solvers.spacings import stretch
from .base import TAILS
from .frame import FullSchedule
from .free import Free, Point
from .levers import FREE_LEVERS, SMALL, Parameters

NARROWEST = 1e-4  # of the way from noise to data, one gap between two times may be before it is rounded
MOVED = 0.01  # of that way: times that are nearer are the same for a user
_FARTHEST = 40.0  # log-SNRs beyond it are those of pure noise, or of clean data


@dataclass(frozen=True)
class Nearest:
    """A schedule of the space, and in which respects it is not the one that was asked for."""

    parameters: Parameters
    schedule: Schedule
    changes: tuple[str, ...] = ()


def nearest(space: Free, schedule: Schedule) -> Nearest | None:
    """The nearest schedule of the space; None where its blocks are of another nature: stages in place of a chain."""
    if ("replace" in schedule.networks[0].block_kinds) != space.frame.replaces:
        return None
    frame, own = space.frame, schedule.networks[0].num_blocks
    if own == frame.num_blocks and (exact := space.parameters(schedule)) is not None:
        return Nearest(exact, schedule)
    changes: list[str] = []
    made = frame.num_made(min(max(schedule.num_steps, space.fewest_steps), space.most_steps))
    if own != frame.num_blocks:
        changes.append(f"depths rescaled from {own} to {frame.num_blocks} blocks")
    if made != schedule.num_steps:
        changes.append(f"{schedule.num_steps} steps resampled to {made}")
    rows = [_scaled(schedule.steps[s].blocks, frame.num_blocks) for s in _indices(schedule.num_steps, made)]
    depths, tails, orders = zip(*(_coded(space, row) for row in rows), strict=True)
    gaps, moved = _gaps(space, schedule, made)
    point = Point(gaps, depths, tails, orders, _levers(space, schedule))
    parameters = space.values(point)
    built = space.build(parameters)
    if moved or _moved(frame, built, schedule, made):
        changes.append("times moved")
    changes += _sampler_changes(built, schedule)
    if made == schedule.num_steps and _networks(built) != _networks(schedule):
        changes.append("steps moved between the networks")
    if own == frame.num_blocks and any(
        step.blocks != row for step, row in zip(built.steps, rows, strict=True) if not step.network
    ):
        changes.append("blocks in an order of the space")
    return Nearest(parameters, built, tuple(changes))


def _indices(have: int, wanted: int) -> list[int]:
    """So many indices, evenly spread over those that there are."""
    return [round(i * (have - 1) / max(1, wanted - 1)) for i in range(wanted)]


def _scaled(row: Sequence[Action], num_blocks: int) -> tuple[Action, ...]:
    """The row of a network with another number of blocks."""
    return tuple(row) if len(row) == num_blocks else tuple(row[b * len(row) // num_blocks] for b in range(num_blocks))


def _coded(space: Free, row: Sequence[Action]) -> tuple[int, int, int]:
    """The depth, tail and order that are nearest to a row."""
    depth = space.depth_near(sum(action == RUN for action in row))
    names = {action: name for name, action in TAILS.items()}
    others = [names[each] for each in row if each != RUN and names[each] in space.tails]
    stored = [name for name in others if name != "drop"]  # what has nothing stored yet is dropped beside any tail
    tail = max(stored or others, key=(stored or others).count, default=space.tails[0])
    agreeing = [sum(row[block] == RUN for block in order[:depth]) for order in space.orders]
    return depth, space.tails.index(tail), agreeing.index(max(agreeing))


def _gaps(space: Free, schedule: Schedule, made: int) -> tuple[tuple[float, ...], bool]:
    """The gaps between the times along the frame's spacing, and whether the first had to be moved."""
    frame = space.frame
    intervals, count = frame.num_intervals(made), frame.num_times(made)
    end = [] if intervals < count else [1.0]  # where the last step goes to, if none is spent there
    ends = _resampled([*_progress(frame, schedule), *end], intervals + 1)
    wanted = ends[:count]
    even = _progress(frame, frame.steps(made))
    same = 1e-6 if schedule.num_steps == made else MOVED / 2  # resampled times lie on lines between others
    if (
        not space.times_free
        or len(even) != count
        or all(math.isclose(*pair, abs_tol=same) for pair in zip(wanted, even, strict=True))
    ):
        return (1.0,) * intervals, False
    return tuple(max(after - before, NARROWEST) for before, after in pairwise([0.0, *ends[1:]])), wanted[0] > MOVED


def _distance(pair: tuple[float, float]) -> float:
    return abs(pair[0] - pair[1])


def _progress(frame: FullSchedule, schedule: Schedule) -> list[float]:
    """The progress of a schedule's times along the frame's spacing, each time once.

    Between two processes times are compared by their log-SNR.
    """
    sampler, noise = schedule.sampler, frame.full.sampler.noise
    times = list(dict.fromkeys(step.time for step in schedule.steps))
    if sampler.noise != noise or noise.kind == "vp":
        ratios = [marginal_at(sampler.noise, sampler.time, time).log_snr for time in times]
        times = [stretch(noise).time_at(min(max(each, -_FARTHEST), _FARTHEST)) for each in ratios]
    return [frame.progress(time) for time in times]


def _resampled(values: Sequence[float], count: int) -> list[float]:
    """So many values along the line through those that there are."""
    if len(values) == count:
        return list(values)
    places = [i * (len(values) - 1) / max(1, count - 1) for i in range(count)]
    lows = [min(int(place), max(len(values) - 2, 0)) for place in places]
    return [
        values[low] + (values[min(low + 1, len(values) - 1)] - values[low]) * (place - low)
        for place, low in zip(places, lows, strict=True)
    ]


def _moved(frame: FullSchedule, built: Schedule, schedule: Schedule, made: int) -> bool:
    """Whether a time is elsewhere, beyond what rounding does, though there are as many."""
    have, wanted = _progress(frame, built), _progress(frame, schedule)
    return made == schedule.num_steps and (
        len(have) != len(wanted) or max(map(_distance, zip(have, wanted, strict=True))) > MOVED
    )


def _levers(space: Free, schedule: Schedule) -> tuple[tuple[str, Any], ...]:
    """The levers' values that are nearest to what a schedule does; the full schedule's where it doesn't say."""
    guided = [s for s in range(schedule.num_steps) if len(branches_at(schedule, s)) > 1]
    first, last = (guided[0], guided[-1] + 1) if guided else (0, 0)
    whole = {name: value for lever in FREE_LEVERS for name, value in lever.whole(space.frame).items()}
    wanted = {
        "solver_order": schedule.sampler.order,
        "unguided_share": first / schedule.num_steps,
        "guided_share": last / schedule.num_steps,
        SMALL: next((s for s, step in enumerate(schedule.steps) if not step.network), schedule.num_steps)
        / schedule.num_steps,
    }
    return tuple((name, _inside(each, wanted.get(name, whole[name]))) for name, each in space.other_levers.items())


def _inside(distribution: BaseDistribution, value: Any) -> Any:
    """The value of a distribution that is nearest to one that is wanted."""
    if isinstance(distribution, CategoricalDistribution):
        return value if value in distribution.choices else distribution.choices[0]
    assert isinstance(distribution, FloatDistribution)
    low, high, step = distribution.low, distribution.high, distribution.step
    value = min(max(value, low), high)
    return value if step is None else round(low + step * round((value - low) / step), 9)


def _sampler_changes(built: Schedule, schedule: Schedule) -> list[str]:
    """How the solver, the prediction's guidance and the rows differ, in words."""
    mine, other = built.sampler, schedule.sampler
    changes: list[str] = []
    if (mine.name, mine.variant) != (other.name, other.variant):
        changes.append(f"{mine.name} in place of {other.name}")
    elif mine.order != other.order:
        changes.append(f"order {mine.order} in place of {other.order}")
    if built.guidance != schedule.guidance:
        changes.append("this study's guidance")
    elif _guided(built) != _guided(schedule) and built.num_steps == schedule.num_steps:
        changes.append("guided steps moved")
    if schedule.steps[0].coefficients is not None and built.steps[0].coefficients is None:
        changes.append("the solver's own coefficients")
    return changes


def _networks(schedule: Schedule) -> list[int]:
    return [step.network for step in schedule.steps]


def _guided(schedule: Schedule) -> list[int]:
    return [len(branches_at(schedule, s)) for s in range(schedule.num_steps)]
