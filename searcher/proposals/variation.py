"""Points near those that are known: what a search tries next.

Each change is one that a person would try: a stretch of steps deeper or shallower, one step more or less, times moved,
another stand-in, the first half of one schedule with the second half of another.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from random import Random
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from ..spaces.free import WIDEST, Free, Point
from ..spaces.levers import SMALL

FINEST = 0.03  # the smallest moves of times in parts of the largest

Change = Callable[[Point, Point], Point | None]


class Variation:
    """Varies points of a space, by one to three changes.

    Args:
        space: of the points.
        generator: of its choices.
    """

    def __init__(self, space: Free, generator: Random) -> None:
        self._space, self._random = space, generator
        self._times_free = space.times_free
        # Whether each time has one step, so that steps can be put in and taken out.
        count = space.frame.num_steps
        self._single = space.frame.num_times(count) == count
        changes: list[tuple[Change, float]] = [(self._cross, 1.0)]
        if len(space.depths) > 1:
            changes.append((self._depth, 3.0))
        if space.most_steps > space.fewest_steps:
            changes.append((self._count, 1.0))
            if self._single and self._times_free:
                changes.append((self._insert_or_remove, 1.0))
        if self._times_free:
            changes += [(self._warp, 1.0), (self._move, 1.0)]
        if len(space.tails) > 1:
            changes.append((self._tail, 0.2))
        if len(space.orders) > 1:
            changes.append((self._order, 0.1))
        if space.other_levers:
            changes.append((self._lever, 0.15))
        if SMALL in space.other_levers:
            changes.append((self._hand_over, 0.7))
        self._changes = [change for change, _ in changes]
        self._shares = list(accumulate(weight for _, weight in changes))

    def vary(self, point: Point, other: Point) -> Point | None:
        """A point near one, with parts of another perhaps; None where no such point was found."""
        found: Point | None = point
        for _ in range(self._random.randrange(1, 4)):
            if found is not None:
                (change,) = self._random.choices(self._changes, cum_weights=self._shares)
                found = change(found, other)
        return None if found is None or found == point else found

    def _stretch(self, num_steps: int) -> range:
        """One step, or neighbouring ones."""
        first = self._random.randrange(num_steps)
        if self._random.random() < 0.5:
            return range(first, first + 1)
        return range(first, min(num_steps, first + 1 + self._random.randrange(num_steps)))

    def _depth(self, point: Point, _: Point) -> Point:
        stretch, depths = self._stretch(point.num_steps), list(point.depths)
        blocks = self._space.frame.num_blocks
        widest = max(1, blocks // 4)
        by = self._random.randrange(1, widest + 1) * (1 if self._random.random() < 0.5 else -1)
        if self._random.random() < 0.4:
            by = int(math.copysign(1, by))
        for s in stretch:
            depths[s] = self._deeper(depths[s], by)
        return replace(point, depths=tuple(depths))

    def _deeper(self, depth: int, by: int) -> int:
        """A depth moved by so many blocks, and where the space has none there, to the next one that it has."""
        beyond = [each for each in self._space.depths if (each - depth) * by > 0]
        return min(beyond, key=lambda each: abs(each - depth - by), default=depth)

    def _tail(self, point: Point, _: Point) -> Point:
        return replace(point, tails=self._set(point.tails, len(self._space.tails)))

    def _order(self, point: Point, _: Point) -> Point:
        return replace(point, orders=self._set(point.orders, len(self._space.orders)))

    def _set(self, codes: Sequence[int], count: int) -> tuple[int, ...]:
        """The codes with another value at one step, a stretch of them or all."""
        value, found = self._random.randrange(count), list(codes)
        stretch = range(len(codes)) if self._random.random() < 0.3 else self._stretch(len(codes))
        for s in stretch:
            found[s] = value
        return tuple(found)

    def _lever(self, point: Point, _: Point) -> Point:
        levers = dict(point.levers)
        name = list(levers)[self._random.randrange(len(levers))]
        levers[name] = self._drawn(self._space.other_levers[name])
        return replace(point, levers=tuple(levers.items()))

    def _hand_over(self, point: Point, _: Point) -> Point:
        """Another number of steps for the small network."""
        share = self._drawn(self._space.other_levers[SMALL])
        return replace(point, levers=tuple((dict(point.levers) | {SMALL: share}).items()))

    def _drawn(self, distribution: Any) -> Any:
        if isinstance(distribution, CategoricalDistribution):
            return distribution.choices[self._random.randrange(len(distribution.choices))]
        if isinstance(distribution, IntDistribution):
            return self._random.randrange(distribution.low, distribution.high + 1)
        assert isinstance(distribution, FloatDistribution)
        value = self._random.uniform(distribution.low, distribution.high)
        step = distribution.step
        return value if step is None else round(distribution.low + round((value - distribution.low) / step) * step, 6)

    def _count(self, point: Point, _: Point) -> Point | None:
        """One or two steps more or fewer, with the same shape."""
        by = self._random.choice((-2, -1, 1, 2))
        frame = self._space.frame
        wanted = min(max(point.num_steps + by, self._space.fewest_steps), self._space.most_steps)
        made = frame.num_made(wanted)
        if made == point.num_steps or made < self._space.fewest_steps:
            return None
        intervals = frame.num_intervals(made)
        sources = [min(int((s + 0.5) / made * point.num_steps), point.num_steps - 1) for s in range(made)]
        old = np.array(point.positions)
        new = np.interp(np.linspace(0, 1, intervals + 1), np.linspace(0, 1, len(old)), old)
        alike = len(set(point.gaps)) == 1
        return Point(
            gaps=(1.0,) * intervals if alike else tuple(np.diff(new).tolist()),
            depths=tuple(point.depths[s] for s in sources),
            tails=tuple(point.tails[s] for s in sources),
            orders=tuple(point.orders[s] for s in sources),
            levers=point.levers,
        )

    def _insert_or_remove(self, point: Point, _: Point) -> Point | None:
        if self._random.random() < 0.5:
            if point.num_steps <= max(2, self._space.fewest_steps):
                return None
            s = self._random.randrange(1, point.num_steps)
            return self._without(point, s)
        if point.num_steps >= self._space.most_steps:
            return None
        s = self._random.randrange(len(point.gaps))
        half = point.gaps[s] / 2
        sources = [*range(min(s + 1, point.num_steps)), min(s, point.num_steps - 1), *range(s + 1, point.num_steps)]
        gaps = (*point.gaps[:s], half, half, *point.gaps[s + 1 :])
        return self._picked(point, sources[: point.num_steps + 1], gaps)

    def _without(self, point: Point, s: int) -> Point:
        """The point without a step after the first; the gap before it grows by its own."""
        gaps = list(point.gaps)
        first = min(s - 1, len(gaps) - 2)  # where the last step stands at the end, the one before takes its place
        gaps[first : first + 2] = [gaps[first] + gaps[first + 1]]
        return self._picked(point, [i for i in range(point.num_steps) if i != s], tuple(gaps))

    def _picked(self, point: Point, sources: Sequence[int], gaps: tuple[float, ...]) -> Point:
        return Point(
            gaps,
            tuple(point.depths[s] for s in sources),
            tuple(point.tails[s] for s in sources),
            tuple(point.orders[s] for s in sources),
            point.levers,
        )

    def _scale(self) -> float:
        """How far times move: often a little and sometimes far, since near the end only small moves gain."""
        return FINEST ** self._random.random()

    def _warp(self, point: Point, _: Point) -> Point:
        """Times nearer to noise or to data: progress u becomes u^w."""
        power = math.exp(self._random.gauss(0.0, 0.3 * self._scale()))
        return replace(point, gaps=tuple(np.diff(np.array(point.positions) ** power).tolist()))

    def _move(self, point: Point, _: Point) -> Point | None:
        """One time moved between its neighbours."""
        if len(point.gaps) < 2:
            return None
        gaps = list(point.gaps)
        i = self._random.randrange(1, len(gaps))
        both = gaps[i - 1] + gaps[i]
        share = min(max(gaps[i - 1] / both + self._random.gauss(0.0, 0.25 * self._scale()), 0.05), 0.95)
        gaps[i - 1 : i + 1] = [share * both, (1 - share) * both]
        return replace(point, gaps=tuple(gaps))

    def _cross(self, point: Point, other: Point) -> Point | None:
        """The noisy part of one and the rest of the other."""
        frame = self._space.frame
        if not self._single or not self._times_free:
            if point.num_steps != other.num_steps:
                return None
            s = self._random.randrange(1, point.num_steps) if point.num_steps > 1 else 0
            return replace(
                point,
                depths=point.depths[:s] + other.depths[s:],
                tails=point.tails[:s] + other.tails[s:],
                orders=point.orders[:s] + other.orders[s:],
            )
        where = self._random.random()
        first = sum(position < where for position in point.positions[: point.num_steps])
        second = sum(position < where for position in other.positions[: other.num_steps])
        count = first + other.num_steps - second
        if not first or not max(2, self._space.fewest_steps) <= count <= self._space.most_steps:
            return None
        positions = (*point.positions[:first], *other.positions[second:])
        if len(positions) != frame.num_intervals(count) + 1:
            return None
        gaps = tuple(np.diff(positions).tolist())
        if min(gaps) <= 0:
            return None
        return Point(
            gaps,
            point.depths[:first] + other.depths[second:],
            point.tails[:first] + other.tails[second:],
            point.orders[:first] + other.orders[second:],
            point.levers,
        )


def is_even(point: Point) -> bool:
    """Whether no gap is far wider or narrower than the others, so that parameters can hold it."""
    middle = math.exp(sum(map(math.log, point.gaps)) / len(point.gaps))
    return all(middle / WIDEST <= gap <= middle * WIDEST for gap in point.gaps)
