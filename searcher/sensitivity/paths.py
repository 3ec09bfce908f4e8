"""Fronts of whole schedules from what single steps cost: dynamic programming over the steps.

Each measured chain has an error: a vector, by which the images' features differ from the full schedule's. The loss of a
path is predicted in one of three ways.

* additive: the sum of the squared lengths of its steps' own errors, as tables of sensitivities have it.
* vector: the squared length of the sum of the same errors, so that what two steps do may cancel or add up.
* path: the same, and each step's error depends on the steps before it, where chains were measured.

For additive losses the fronts are exact. For the others a few best partial paths are kept at each cost and state.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .grid import Chain, Grid, Option

Mode = Literal["additive", "vector", "path"]
MODES: tuple[Mode, ...] = ("additive", "vector", "path")
Vector = NDArray[np.float64]
Path = tuple[Option | None, ...]  # what each step does; None runs whole

WIDTH = 8  # partial paths that are kept at one cost and state
MOST_COSTS = 512  # that are told apart; nearer ones compete with each other
_MOST_WHOLE = 3  # whole steps in a row that any stand-in asks for


@dataclass(frozen=True)
class ErrorTable:
    """The errors at one number of steps.

    Attributes:
        grid: what was measured.
        own: (D,) by which the features of this number of steps differ from the full schedule's.
        errors: (D,) by step and chain: by which the features differ from those of this number of steps. Chains that are
            missing are left out of all paths, or taken for what their last option does by itself.
    """

    grid: Grid
    own: Vector
    errors: Mapping[tuple[int, Chain], Vector]


class _State(NamedTuple):
    """What of the steps before decides what a step may do, and costs: whole steps in a row, or the chain since then."""

    whole: int
    chain: Chain


_START = _State(0, ())


class Found(NamedTuple):
    """One path of a front."""

    cost: int
    loss: float
    path: Path


def predicted(table: ErrorTable, path: Sequence[Option | None], mode: Mode) -> float:
    """The loss of a path. Raises KeyError for a step that may not do what it does."""
    state, total, loss = _START, table.own, float(table.own @ table.own)
    for s, option in enumerate(path):
        state, error = {each: (after, error) for each, after, error in _moves(table, s, state, mode)}[option]
        total, loss = total + error, loss + float(error @ error)
    return loss if mode == "additive" else float(total @ total)


def best_paths(table: ErrorTable, mode: Mode, width: int = WIDTH) -> list[Found]:
    """The paths with the lowest loss, at every cost at which none that costs less has a lower one; costs rise."""
    grid = table.grid
    quantum = max(1, grid.full_work // MOST_COSTS)
    kept: dict[_State, _Partial] = {_START: _Partial.start(table.own)}
    for s in range(grid.num_steps):
        grown: dict[_State, list[_Growth]] = {}
        for state, partial in kept.items():
            for option, after, error in _moves(table, s, state, mode):
                number = -1 if option is None else grid.options.index(option)
                growth = _grown(partial, grid.cost(s, option), error, number, cross=mode != "additive")
                grown.setdefault(after, []).append(growth)
        kept = {state: _best(parts, quantum, 1 if mode == "additive" else width) for state, parts in grown.items()}
    choices = (*grid.options, None)  # −1 is the last one
    return lowest(
        [
            Found(cost, loss, tuple(choices[number] for number in numbers))
            for each in kept.values()
            for cost, loss, numbers in zip(
                each.costs.tolist(), each.losses.tolist(), each.options.tolist(), strict=True
            )
        ]
    )


def lowest(found: Sequence[Found]) -> list[Found]:
    """Those that no other one beats in cost and loss; costs rise."""
    front: list[Found] = []
    for each in sorted(found, key=lambda one: (one.cost, one.loss)):
        if not front or each.loss < front[-1].loss:
            front.append(each)
    return front


def _moves(table: ErrorTable, s: int, state: _State, mode: Mode) -> Iterator[tuple[Option | None, _State, Vector]]:
    """What step `s` may do, the state after it, and the error that it adds."""
    yield None, _State(min(state.whole + 1, _MOST_WHOLE), ()), np.zeros_like(table.own)
    for option in table.grid.options:
        before = _read(table.grid, state, option)
        own = table.errors.get((s, (option,)))
        if before is None or own is None:
            continue
        known, earlier = table.errors.get((s, (*before, option))), table.errors.get((s - 1, before))
        if before and mode == "path" and known is not None and earlier is not None:
            own = known - earlier
        yield option, _State(0, (*before, option) if option.needs else (option,)), own


def _read(grid: Grid, state: _State, option: Option) -> Chain | None:
    """The chain before an option that decides what it costs; None where the option must not come."""
    if not option.needs:  # an exit, after another exit
        return state.chain[-1:] if state.chain and not state.chain[-1].needs else ()
    if not state.chain:
        return () if state.whole >= option.needs else None
    return state.chain if state.chain[-1] == option and len(state.chain) < grid.oldest else None


@dataclass(frozen=True, eq=False)
class _Partial:
    """Paths that have come to one state.

    Attributes:
        costs, losses: (M,).
        sums: (M, D) of their errors.
        options: (M, S) what each step so far does, as a number in the grid's options; −1 runs whole.
    """

    costs: NDArray[np.int64]
    losses: Vector
    sums: Vector
    options: NDArray[np.int16]

    @classmethod
    def start(cls, own: Vector) -> "_Partial":
        return cls(np.zeros(1, np.int64), np.array([own @ own]), own[None], np.zeros((1, 0), np.int16))

    def taken(self, rows: NDArray[np.int64], option: int, error: Vector) -> tuple[Vector, NDArray[np.int16]]:
        """Sums and options of some rows with one step more."""
        last = np.full((len(rows), 1), option, np.int16)
        return self.sums[rows] + error, np.concatenate([self.options[rows], last], axis=1)


class _Growth(NamedTuple):
    """Partial paths and a step more, with the costs and losses that come of it."""

    before: _Partial
    costs: NDArray[np.int64]
    losses: Vector
    error: Vector
    option: int


def _grown(before: _Partial, cost: int, error: Vector, option: int, *, cross: bool) -> _Growth:
    losses = before.losses + error @ error
    return _Growth(before, before.costs + cost, losses + 2 * (before.sums @ error) if cross else losses, error, option)


def _best(parts: Sequence[_Growth], quantum: int, limit: int) -> _Partial:
    """The `limit` with the lowest losses at each cost."""
    costs = np.concatenate([each.costs for each in parts])
    losses = np.concatenate([each.losses for each in parts])
    places = costs // quantum
    order = np.lexsort((losses, places))
    firsts = np.searchsorted(places[order], places[order])
    rows = np.sort(order[np.arange(len(order)) - firsts < limit])
    ends = np.cumsum([0, *(len(each.costs) for each in parts)])
    taken = [
        each.before.taken(rows[(rows >= low) & (rows < high)] - low, each.option, each.error)
        for each, low, high in zip(parts, ends[:-1], ends[1:], strict=True)
    ]
    sums, options = (np.concatenate(each) for each in zip(*taken, strict=True))
    return _Partial(costs[rows], losses[rows], sums, options)
