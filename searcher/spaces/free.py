"""The space of free steps: at each step its own time, its own depth and its own stand-in for what doesn't run.

It holds all other spaces' shapes and far more than TPE can model in a study's few evaluations. It is made for the
sampler `front`, which varies whole schedules; other samplers see a flat set of parameters, as in every space.

A point has the form of a schedule (`Point`). Its parameters are numbered: those of steps that a schedule with fewer
steps doesn't have keep their values of the full schedule.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from ...backends.errors import InputError
from ...backends.schedule import DROP, RUN, Action, Schedule, block_evaluations, branches_at
from .base import TAILS, Space, ramp
from .frame import ActionRow, BlockOrder, FullSchedule, with_rows
from .levers import FREE_LEVERS, SMALL, Parameters, small_steps
from .limits import numbers_distribution, read_limits

MOST_SLOTS = 64  # schedules with more steps share parameters between neighbours
WIDEST = 8.0  # times as wide, or as narrow, as all gaps alike, one gap between two times may be


@dataclass(frozen=True)
class Point:
    """One schedule of the space.

    Attributes:
        gaps: (num_intervals,) widths of the gaps between times on the spacing's progress; their scale means nothing.
        depths: (num_steps,) how many blocks run.
        tails: (num_steps,) what stands in for those that don't, as a number in the space's `tails`.
        orders: (num_steps,) which blocks those are, as a number in the space's `orders`.
        levers: the values of the other parameters, by their names.
    """

    gaps: tuple[float, ...]
    depths: tuple[int, ...]
    tails: tuple[int, ...]
    orders: tuple[int, ...]
    levers: tuple[tuple[str, Any], ...] = ()

    @property
    def num_steps(self) -> int:
        return len(self.depths)

    @property
    def positions(self) -> tuple[float, ...]:
        """(num_intervals + 1,) the times as progress along the spacing, from 0 to 1."""
        return tuple(position / sum(self.gaps) for position in accumulate(self.gaps, initial=0.0))


class Free(Space):
    """A free time, depth, order of blocks and stand-in at every step, and the solver's order.

    Args:
        frame: the study's full schedule.
        levers: those that are fixed or bounded, as `read_limits` takes them.

    Attributes:
        orders: the orders in which a depth adds blocks.
        tails: what may stand in for blocks that don't run; what has never run is left out, or runs where it can't be.
        depths: how many blocks may run at a step, rising.
        fewest_steps, most_steps: the ends of the range of step counts.
        times_free: whether steps may stand elsewhere than at the spacing's times.
        other_levers: the parameters that no step has of its own.
    """

    name = "free"

    def __init__(self, frame: FullSchedule, levers: Mapping[str, Any] | None = None) -> None:
        super().__init__(frame)
        orders = dict(frame.orders)
        if not frame.replaces and frame.num_blocks > 2:
            # Both ends run and the middle is cached, as in Δ-DiT (Chen et al. 2024) and DeepCache.
            forward = range(frame.num_blocks)
            ends = dict.fromkeys(block for pair in zip(forward, forward[::-1], strict=True) for block in pair)
            orders["ends"] = tuple(ends)
        limits = read_limits(frame, levers or {}, self._tails, tuple(orders))
        self.tails, self._order_names, self.depths = limits.stand_ins, limits.orders, limits.depths
        self.orders: tuple[BlockOrder, ...] = tuple(orders[name] for name in limits.orders)
        self.fewest_steps, self.most_steps = limits.steps
        self.times_free, self.other_levers, self._whole = limits.times, dict(limits.others), dict(limits.whole)

    @cached_property
    def num_slots(self) -> int:
        """Steps that have parameters of their own."""
        return min(self.most_steps, MOST_SLOTS)

    def distributions(self) -> dict[str, BaseDistribution]:
        depth = numbers_distribution(self.depths)
        gap = FloatDistribution(1 / WIDEST, WIDEST, log=True)
        found: dict[str, BaseDistribution] = {
            "num_steps": IntDistribution(self.fewest_steps, self.most_steps, log=True),
            **self.other_levers,
        }
        for s in range(self.num_slots):
            found[f"depth_{s}"] = depth
            found[f"tail_{s}"] = CategoricalDistribution(self.tails)
            if len(self.orders) > 1:
                found[f"keep_{s}"] = CategoricalDistribution(self._order_names)
            if self.times_free:
                found[f"gap_{s}"] = gap
        return found

    @property
    def words(self) -> str:
        steps = "–".join(map(str, dict.fromkeys((self.fewest_steps, self.most_steps))))
        depths = "–".join(map(str, dict.fromkeys((self.depths[0], self.depths[-1]))))
        parts = [
            f"{steps} steps",
            f"{depths} of {self.frame.num_blocks} blocks at each",
            f"stand-in {', '.join(self.tails)}",
            f"blocks {', '.join(self._order_names)}",
            f"times {'free' if self.times_free else 'of the spacing'}",
            *(f"{name.replace('_', '-')} {_range_words(each)}" for name, each in self.other_levers.items()),
        ]
        return f"{self.name}: {'; '.join(parts)}"

    def reach(self) -> tuple[int, int]:
        work: list[int] = []
        for steps, depth in ((self.fewest_steps, self.depths[0]), (self.most_steps, self.depths[-1])):
            made = self.frame.num_made(steps)
            most = depth == self.depths[-1]
            levers = {name: _end(name, each, most) for name, each in self.other_levers.items()}
            gaps = (1.0,) * self.frame.num_intervals(made)
            for other in (most, not most):  # the small network may have more blocks than a depth, or fewer
                levers |= {name: _end(name, each, other) for name, each in self.other_levers.items() if name == SMALL}
                point = Point(gaps, (depth,) * made, (0,) * made, (0,) * made, tuple(levers.items()))
                work.append(block_evaluations(self.schedule(point)))
        return min(work), max(work)

    def depth_near(self, depth: float) -> int:
        """The depth that the space has nearest to a number."""
        return min(self.depths, key=lambda each: abs(each - depth))

    def build(self, parameters: Mapping[str, Any]) -> Schedule:
        return self.schedule(self.point(parameters))

    def schedule(self, point: Point) -> Schedule:
        """The schedule of a point."""
        alike = len(set(point.gaps)) == 1
        base = self.frame.placed(point.num_steps, None if alike else point.positions)
        levers = {**self._whole, **dict(point.levers)}
        for lever in FREE_LEVERS:
            base = lever.change(base, self.frame, levers)
        return with_rows(base, self._rows(point, base))

    def small_steps(self, point: Point) -> int:
        """How many of the first steps the small network takes."""
        return small_steps(point.num_steps, {**self._whole, **dict(point.levers)})

    def guided_steps(self, point: Point) -> tuple[int, int]:
        """The first step that evaluates both guidance branches, and the first after it that doesn't any more."""
        if not self.frame.guided:
            return 0, 0
        levers = {**self._whole, **dict(point.levers)}
        first, last = (round(levers[name] * point.num_steps) for name in ("unguided_share", "guided_share"))
        return min(first, last), last

    def point(self, parameters: Mapping[str, Any]) -> Point:
        """The point of parameters."""
        count = parameters["num_steps"]
        num_steps = self.frame.num_made(count)
        slots = [self._slot(s, num_steps) for s in range(num_steps)]
        intervals = self.frame.num_intervals(num_steps)
        return Point(
            gaps=tuple(parameters.get(f"gap_{self._slot(i, intervals)}", 1.0) for i in range(intervals)),
            depths=tuple(parameters[f"depth_{s}"] for s in slots),
            tails=tuple(self.tails.index(parameters[f"tail_{s}"]) for s in slots),
            orders=tuple(self._order_names.index(parameters.get(f"keep_{s}", self._order_names[0])) for s in slots),
            levers=tuple((name, parameters[name]) for name in self.other_levers),
        )

    def values(self, point: Point) -> Parameters:
        """The parameters of a point, rounded to what the distributions hold; several steps of one slot become alike."""
        found = {**self._point(), "num_steps": point.num_steps, **dict(point.levers)}
        for s in reversed(range(point.num_steps)):
            slot = self._slot(s, point.num_steps)
            found[f"depth_{slot}"] = point.depths[s]
            found[f"tail_{slot}"] = self.tails[point.tails[s]]
            if len(self.orders) > 1:
                found[f"keep_{slot}"] = self._order_names[point.orders[s]]
        if self.times_free and len(set(point.gaps)) > 1:
            middle = math.exp(sum(map(math.log, point.gaps)) / len(point.gaps))
            for i in reversed(range(len(point.gaps))):
                width = min(max(point.gaps[i] / middle, 1 / WIDEST), WIDEST)
                found[f"gap_{self._slot(i, len(point.gaps))}"] = min(max(round(width, 3), 1 / WIDEST), WIDEST)
        return found

    def known_points(self) -> Iterator[Parameters]:
        if self.frame.num_blocks in self.depths:
            for count in range(self.most_steps, self.fewest_steps - 1, -1):
                yield self._point(num_steps=count)

    def parameters(self, schedule: Schedule) -> Parameters | None:
        """The inverse: for schedules on the frame's own spacing whose every step runs the first blocks of an order."""
        found = self._by_digest.get(schedule.digest)
        fits = (
            len(schedule.networks) == len(self.frame.full.networks)
            and self.fewest_steps <= schedule.num_steps <= self.most_steps
        )
        if found is not None or not fits:
            return found
        rows = [self._coded(step.blocks) for step in schedule.steps]
        if any(row is None for row in rows):
            return None
        depths, tails, orders = zip(*(row for row in rows if row), strict=True)
        gaps = (1.0,) * self.frame.num_intervals(schedule.num_steps)
        point = self.values(Point(gaps, depths, tails, orders, self._levers))
        return point if self.build(point).digest == schedule.digest else None

    def warm_starts(self) -> list[Parameters]:
        """Few and far apart: half the steps, a curve of exits on few steps, and a cache."""
        blocks, found = self.frame.num_blocks, list[Point]()
        if not self.frame.replaces:
            for share, low, high, warp in ((0.25, 1 / 3, 1.0, 0.7), (0.15, 1 / 4, 2 / 3, 0.7), (0.5, 1 / 3, 1.0, 0.8)):
                found.append(self._anchor(self._few(share), low * blocks, high * blocks, warp))
        if "reuse" in self.tails:
            found.append(self._cached(self._few(0.5), blocks // 4, self.tails.index("reuse")))
        found.append(whole := self._anchor(self._few(0.5), blocks, blocks, 1.0))
        if (share := self.other_levers.get(SMALL)) is not None:
            assert isinstance(share, FloatDistribution)
            levers = dict(whole.levers) | {SMALL: min(max(0.4, share.low), share.high)}
            found.append(replace(whole, levers=tuple(levers.items())))
        return [self.values(each) for each in dict.fromkeys(found)]

    def _few(self, share: float) -> int:
        return min(max(self.fewest_steps, round(share * self.frame.num_steps)), self.most_steps)

    def _anchor(self, num_steps: int, low: float, high: float, warp: float) -> Point:
        """Exits that rise from noise to data, at times that are nearer to each other at the data."""
        made = self.frame.num_made(num_steps)
        intervals = self.frame.num_intervals(made)
        places = [(i / intervals) ** warp for i in range(intervals + 1)]
        low = max(self.depths[0], low)
        depths = tuple(self.depth_near(ramp(s / max(1, made - 1), low, high, 1.0)) for s in range(made))
        gaps = tuple(after - before for before, after in pairwise(places))
        even = warp == 1.0 or not self.times_free
        return Point((1.0,) * intervals if even else gaps, depths, (0,) * made, (0,) * made, self._levers)

    def _cached(self, num_steps: int, shallow: int, tail: int) -> Point:
        """Every second step runs whole."""
        made = self.frame.num_made(num_steps)
        depths = tuple(
            self.depth_near(max(self.depths[0], shallow) if s % 2 else self.frame.num_blocks) for s in range(made)
        )
        return Point((1.0,) * self.frame.num_intervals(made), depths, (tail,) * made, (0,) * made, self._levers)

    @property
    def _levers(self) -> tuple[tuple[str, Any], ...]:
        return tuple((name, self._whole[name]) for name in self.other_levers)

    def _point(self, **changes: Any) -> Parameters:
        found = {"num_steps": self.most_steps, **dict(self._levers)}
        for s in range(self.num_slots):
            found |= {f"depth_{s}": self.depths[-1], f"tail_{s}": self.tails[0]}
            if len(self.orders) > 1:
                found[f"keep_{s}"] = self._order_names[0]
            if self.times_free:
                found[f"gap_{s}"] = 1.0
        return {**found, **changes}

    def _slot(self, index: int, count: int) -> int:
        return index if count <= self.num_slots else index * self.num_slots // count

    def _rows(self, point: Point, base: Schedule) -> list[ActionRow]:
        """What each block does: the first ones of the order run, and what can't be replaced by a value is left out.

        A value must have been stored in each guidance branch that a step of `base` evaluates. The small network's steps
        keep their rows. Of networks that take turns `with_rows` knows which one stored it.
        """
        branches = [branches_at(base, s) for s in range(base.num_steps)]
        ran = {branch: set[int]() for step in branches for branch in step}
        blocks, can_drop = range(self.frame.num_blocks), not self.frame.replaces
        rows: list[ActionRow] = []
        for s, evaluated in enumerate(branches):
            if base.steps[s].network and self.frame.turn is None:
                rows.append(tuple(base.steps[s].blocks))
                continue
            stored = set[int](blocks).intersection(*(ran[branch] for branch in evaluated))
            running = set(self.orders[point.orders[s]][: point.depths[s]])
            if not can_drop:
                running |= set(blocks) - stored
            for branch in evaluated:
                ran[branch] |= running
            action = TAILS[self.tails[point.tails[s]]]
            rows.append(tuple(RUN if b in running else action if b in stored else DROP for b in blocks))
        return rows

    def _coded(self, row: Sequence[Action]) -> tuple[int, int, int] | None:
        """The depth, tail and order of a row; None where it has no such form. Rows of one step alone are looked at."""
        others = [action for action in row if action != RUN and action != DROP] or [
            action for action in row if action != RUN
        ]
        names = {action: name for name, action in TAILS.items()}
        depth = max(sum(action == RUN for action in row), self.depths[0])
        tail = names.get(others[0]) if others else self.tails[0]
        if tail not in self.tails or depth not in self.depths:
            return None
        for number, order in enumerate(self.orders):
            if all(row[block] == RUN for block in order[:depth]):
                return depth, self.tails.index(tail), number
        return None


def _range_words(distribution: BaseDistribution) -> str:
    if isinstance(distribution, CategoricalDistribution):
        return ", ".join(map(str, distribution.choices))
    assert isinstance(distribution, FloatDistribution)
    return f"{distribution.low:g}–{distribution.high:g}"


def _end(name: str, distribution: BaseDistribution, most: bool) -> Any:
    """The value with which most is evaluated, or least: of a share of guided steps, or of steps before these."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0]
    assert isinstance(distribution, FloatDistribution)
    return distribution.high if most != (name == "unguided_share") else distribution.low


def require_free(space: Space, sampler: str) -> Free:
    """The space, which the sampler varies schedules of. Raises InputError if it is another one."""
    if not isinstance(space, Free):
        raise InputError(
            f"sampler: `{sampler}` needs the space `free`, but got `{space.name}`. Use --space free or --sampler tpe."
        )
    return space
