"""Points of the free space as arrays that a surrogate compares, and what they cost.

A schedule is described by what it does along the way from noise to data, on a grid of progress that all schedules
share. So schedules of different numbers of steps are comparable, and the same change at neighbouring steps acts alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from scipy.optimize import nnls

from ..spaces.free import Free, Point

Array = NDArray[np.float64]

BINS = 12  # of the way from noise to data
PARTS = 4  # of the network, whose blocks count together
_OF_SMALL = 0.5
_CENTRES = (np.arange(BINS) + 0.5) / BINS


@dataclass(frozen=True)
class Descriptions:
    """So many points.

    Attributes:
        local: (C, BINS, F) what they do along the way: see `LOCAL`.
        whole: (C, G) the levers that no step has of its own, each from 0 to 1.
        work: (C, 4) what costs time: 1, evaluations of the network, blocks that run, and blocks that are replaced by
            stored values; (C, 5) with a small network, whose blocks count apart. Each guidance branch counts.
    """

    local: Array
    whole: Array
    work: Array

    def __len__(self) -> int:
        return len(self.work)

    def __getitem__(self, index: Any) -> "Descriptions":
        return Descriptions(self.local[index], self.whole[index], self.work[index])


# Columns of `Descriptions.local` that have one length scale: width of the step (log); share of blocks that run; shares
# in each part of the network, beyond those of the first blocks of the usual order; shares of blocks that are replaced
# by stored values (reuse, forecast 1 and 2); and the age of those values. A step of the small network has all blocks,
# and `_OF_SMALL` in each part: as far from a whole step as one without blocks.
LOCAL = ((0, 1), (1, 2), (2, 2 + PARTS), (2 + PARTS, 5 + PARTS), (5 + PARTS, 6 + PARTS))


def describe(space: Free, points: Sequence[Point]) -> Descriptions:
    """What a surrogate is told of points."""
    count, most = len(points), max(point.num_steps for point in points)
    blocks = space.frame.num_blocks
    steps = np.array([point.num_steps for point in points])
    edges = np.ones((count, most + 1))
    codes = np.zeros((3, count, most), dtype=np.int64)
    branches = np.ones((count, most))
    small = np.array([space.small_steps(point) for point in points])
    for i, point in enumerate(points):
        edges[i, : point.num_steps + 1] = _edges(point)
        codes[:, i, : point.num_steps] = point.depths, point.tails, point.orders
        first, last = space.guided_steps(point)
        branches[i, first:last] = 2
    alive = np.arange(most) < steps[:, None]
    depths, tails, orders = codes
    values = np.zeros((count, most, LOCAL[-1][1]))
    values[..., 0] = np.log(np.maximum(np.diff(edges, axis=1), 1e-6))
    running_by = _running(space)
    parts = np.array_split(np.arange(blocks), min(PARTS, blocks))
    kinds = np.array([{"drop": -1, "reuse": 0, "forecast-1": 1, "forecast-2": 2}[name] for name in space.tails])
    newest = np.full((count, blocks), np.nan)  # where each block ran last
    replaced = np.zeros((count, most))
    ran = np.zeros((count, most))
    for s in range(most):
        running = running_by[orders[:, s], depths[:, s]]
        if space.frame.replaces:
            running = running | np.isnan(newest)
        on_small = s < small
        running = running & ~on_small[:, None]
        stored = ~running & ~on_small[:, None] & ~np.isnan(newest) & (kinds[tails[:, s]] >= 0)[:, None]
        ran[:, s], replaced[:, s] = running.sum(axis=1), stored.sum(axis=1)
        values[:, s, 1] = np.where(on_small, 1.0, ran[:, s] / blocks)
        usual = running_by[0, ran[:, s].astype(np.int64)]
        for part, members in enumerate(parts):
            values[:, s, 2 + part] = running[:, members].mean(axis=1) - usual[:, members].mean(axis=1)
            values[on_small, s, 2 + part] = _OF_SMALL
        for kind in range(3):
            values[:, s, 2 + PARTS + kind] = (stored & (kinds[tails[:, s]] == kind)[:, None]).mean(axis=1)
        age = np.where(stored, edges[:, s, None] - np.nan_to_num(newest), 0.0)
        values[:, s, 5 + PARTS] = 3 * age.mean(axis=1)
        newest = np.where(running & alive[:, s, None], edges[:, s, None], newest)
    weight, of_small = branches * alive, np.arange(most) < small[:, None]
    columns = [np.ones(count), (weight * ~of_small).sum(axis=1), (ran * weight).sum(axis=1)]
    columns.append((replaced * weight).sum(axis=1))
    if space.frame.small is not None:
        columns.append((weight * of_small).sum(axis=1) * space.frame.small.num_blocks)
    work = np.stack(columns, axis=1)
    return Descriptions(_on_grid(values, edges, steps), _whole(space, points), work)


def _edges(point: Point) -> Array:
    """(num_steps + 1,) where each step begins, and where the last one ends; those at one time share its gap evenly."""
    positions = np.asarray(point.positions)
    if len(positions) == point.num_steps + 1:
        return positions
    if len(positions) == point.num_steps:  # the last step stands at the end
        return np.append(positions[:-1], [1 - 1e-3, 1.0])
    return np.interp(np.linspace(0, 1, point.num_steps + 1), np.linspace(0, 1, len(positions)), positions)


def _running(space: Free) -> NDArray[np.bool_]:
    """(orders, blocks + 1, blocks) which blocks run at each depth of each order."""
    blocks = space.frame.num_blocks
    found = np.zeros((len(space.orders), blocks + 1, blocks), dtype=np.bool_)
    for number, order in enumerate(space.orders):
        for depth in range(blocks + 1):
            found[number, depth, list(order[:depth])] = True
    return found


def _on_grid(values: Array, edges: Array, steps: NDArray[np.int64]) -> Array:
    """(C, BINS, F) the values (C, S, F) of steps, between the steps' middles read off linearly."""
    middles = (edges[:, 1:] + edges[:, :-1]) / 2
    past = np.arange(middles.shape[1]) >= steps[:, None]
    middles = np.where(past, 2.0, middles)
    right = (middles[:, None, :] <= _CENTRES[:, None]).sum(axis=2)  # (C, BINS) the first middle beyond each centre
    low = np.clip(right - 1, 0, steps[:, None] - 1)
    high = np.minimum(right, steps[:, None] - 1)
    rows = np.arange(len(values))[:, None]
    width = middles[rows, high] - middles[rows, low]
    share = np.where(width > 0, (_CENTRES - middles[rows, low]) / np.where(width > 0, width, 1.0), 0.0)[..., None]
    return (1 - share) * values[rows, low] + share * values[rows, high]


def _whole(space: Free, points: Sequence[Point]) -> Array:
    """(C, G) the other levers' values, each on a scale from 0 to 1."""
    levers = space.other_levers
    return np.array([[_unit(levers[name], value) for name, value in point.levers] for point in points]).reshape(
        len(points), -1
    )


def _unit(distribution: BaseDistribution, value: Any) -> float:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices.index(value) / max(1, len(distribution.choices) - 1)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return (value - distribution.low) / ((distribution.high - distribution.low) or 1.0)


@dataclass(frozen=True)
class CostModel:
    """Seconds (or any other cost) of points, as a weighted sum of their work.

    Attributes:
        weights: (4,) or (5,) of the columns of `Descriptions.work`.
    """

    weights: Array

    @classmethod
    def fit(cls, work: Array, costs: Array) -> "CostModel":
        """Nonnegative least squares in relative errors, with what is not known yet drawn towards blocks alone; those of
        a small network towards the others.

        Args:
            work: (N, 4) or (N, 5) of measured points.
            costs: (N,) what they took, above 0.
        """
        with_small = work.shape[1] > 4
        blocks = work[:, 2] + work[:, 4] if with_small else work[:, 2]
        a_block, mean = float(np.median(costs / blocks)), blocks.mean()
        scale = np.array([mean, mean / max(1.0, work[:, 1].mean()), 1.0, 1.0, *[1.0] * with_small]) * a_block
        drawn = np.diag([0.1, 0.1, 0.01, 0.1, *[0.01] * with_small])
        rows = np.vstack([work * scale / costs[:, None], drawn])
        wanted = np.concatenate([np.ones(len(costs)), [0.0, 0.0, 0.01, 0.0, *[0.01] * with_small]])
        return cls(nnls(rows, wanted)[0] * scale)

    def costs(self, work: Array) -> Array:
        """(C,) of points with that work."""
        return work @ self.weights

    def log_costs(self, points: Descriptions) -> Array:
        """(C,) their logarithms."""
        return np.log(np.maximum(self.costs(points.work), 1e-300))
