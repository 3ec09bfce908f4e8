"""What all proposals of one study share, and how depths become rows of blocks.

A frame is the full schedule of the study's weights. A proposal keeps its network, solver and guidance and chooses how
many steps there are, where they stand, and what each block does.

A row says which blocks run at a step, and what the others do. A chain of transformer blocks is left early: depth d runs
the first d of them. The stages of a U-Net can't be left out, only reused, and its last stage makes the output, so there
a depth adds stages in another order.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import count as count_from
from operator import itemgetter

from ...backends.errors import InputError
from ...backends.schedule import (
    DROP,
    RUN,
    Action,
    Branch,
    NetworkSignature,
    Noise,
    Schedule,
    branches_at,
    guidance_at,
    network_times,
)
from ...backends.solvers.spacings import most_steps, times
from ...backends.solvers.tables import find_solver, num_evaluations, respaced

ActionRow = tuple[Action, ...]
BlockOrder = tuple[int, ...]  # all blocks; depth d runs the first d of them


@lru_cache(maxsize=64)
def orders(num_blocks: int, replaces: bool) -> dict[str, BlockOrder]:
    """The orders in which a depth adds blocks, by name.

    Args:
        num_blocks: blocks of the network.
        replaces: whether they are stages of a U-Net, as many down as up with or without one in the middle.

    Returns:
        "front" for a chain: from the first on. For stages "outside", from both ends inwards, the last one first, which
        at depth 2 k is DeepCache (Ma et al. 2024), and "up", the stages up from the last one and then the others from
        the first, which at the number of stages up is Faster Diffusion (Li et al. 2024).
    """
    forward = range(num_blocks)
    if not replaces:
        return {"front": tuple(forward)}
    inwards = dict.fromkeys(block for pair in zip(forward[::-1], forward, strict=True) for block in pair)
    first_up = num_blocks - num_blocks // 2
    return {"outside": tuple(inwards), "up": (*forward[first_up:][::-1], *forward[:first_up])}


@dataclass(frozen=True)
class Turn:
    """A second network of as many blocks, which takes the steps below a time.

    Attributes:
        second: its signature.
        below: the `network_time`.
    """

    second: NetworkSignature
    below: float

    def taken(self, schedule: Schedule) -> Schedule:
        """The schedule of one network, its later steps on the second."""
        steps = tuple(
            replace(step, network=int(time < self.below))
            for step, time in zip(schedule.steps, network_times(schedule), strict=True)
        )
        return replace(schedule, networks=(schedule.networks[0], self.second), steps=steps)


def with_rows(schedule: Schedule, rows: Sequence[ActionRow]) -> Schedule:
    """The schedule with these actions, one row a step and one action a block.

    Where a second network takes over, blocks of it run that would read what they have not stored yet.
    """
    assert len(rows) == schedule.num_steps
    first = schedule.steps[0].network
    changes = next((s for s, step in enumerate(schedule.steps) if step.network > first), schedule.num_steps)
    made = [*rows[:changes], *_stored_first(schedule, rows, changes)]
    steps = tuple(replace(step, blocks=row) for step, row in zip(schedule.steps, made, strict=True))
    return replace(schedule, steps=steps, name=None)


def _stored_first(schedule: Schedule, rows: Sequence[ActionRow], first: int) -> list[ActionRow]:
    """The rows from a step on, in which blocks run that would read a value that no earlier one of them stored in each
    guidance branch."""
    ran: dict[Branch, set[int]] = {"conditional": set(), "unconditional": set()}
    made: list[ActionRow] = []
    for s in range(first, schedule.num_steps):
        branches = branches_at(schedule, s)
        stored = set[int](range(len(rows[s]))).intersection(*(ran[branch] for branch in branches))
        row = tuple(a if a in (RUN, DROP) or b in stored else RUN for b, a in enumerate(rows[s]))
        for branch in branches:
            ran[branch] |= {block for block, action in enumerate(row) if action == RUN}
        made.append(row)
    return made


def stitched(schedule: Schedule, small: NetworkSignature, count: int) -> Schedule:
    """The schedule with its first so many steps on a second network, whose blocks all run."""
    if not count:
        return schedule
    row = (RUN,) * small.num_blocks
    first = (replace(step, network=1, blocks=row) for step in schedule.steps[:count])
    networks = (schedule.networks[0], small)
    return replace(schedule, networks=networks, steps=(*first, *schedule.steps[count:]), name=None)


@lru_cache(maxsize=4096)
def exit_row(
    order: BlockOrder, depth: int, tail: Action = DROP, reach: int | None = None, rest: Action = DROP
) -> ActionRow:
    """Run the first `depth` blocks of an order; give those up to `reach`, or all, the tail; give the others `rest`."""
    reach = len(order) if reach is None else reach
    ranked = (RUN,) * depth + (tail,) * (reach - depth) + (rest,) * (len(order) - reach)
    return tuple(action for _, action in sorted(zip(order, ranked, strict=True), key=itemgetter(0)))


def exit_rows(order: BlockOrder, depths: Sequence[int], tail: Action = DROP) -> list[ActionRow]:
    """A row per depth. With a tail that reads stored values the first step runs whole: nothing is stored before it."""
    rows = [exit_row(order, depth, tail) for depth in depths]
    return rows if tail == DROP else [exit_row(order, len(order)), *rows[1:]]


def refreshed_rows(
    order: BlockOrder, depths: Sequence[int], interval: int, shallow: int, tail: Action, *, droppable: bool = True
) -> list[ActionRow]:
    """Every `interval`-th step runs to its depth; between, `shallow` blocks run and the tail stands in for the others.

    What no refresh ran is left out, so every value that is read was stored: at a step between two refreshes the blocks
    from `shallow` up to the last refresh's depth get the tail action, the blocks beyond it are dropped. Where blocks
    can't be dropped, the first step runs whole and the tail stands in for those beyond, too.

    Args:
        order: blocks of the network in the order in which a depth adds them.
        depths: exit depth of each step, 0..len(order); those between refreshes are not looked at.
        interval: 1 or more; 1 makes each step a refresh.
        shallow: blocks that run between refreshes, 0..len(order).
        tail: what stands in for the blocks that ran at the refresh.
        droppable: whether blocks can be dropped.
    """
    beyond = DROP if droppable else tail
    rows: list[ActionRow] = []
    reach = 0
    for index, depth in enumerate(depths):
        if index % interval == 0:
            reach = depth if droppable or index else len(order)
            rows.append(exit_row(order, reach, beyond))
        else:
            rows.append(exit_row(order, min(shallow, reach), tail, reach, beyond))
    return rows


@dataclass(frozen=True)
class FullSchedule:
    """The full schedule, and the spacing that its times came from.

    Attributes:
        full: every block runs at every step; its `num_steps` is the most a proposal may have.
        spacing: the spacing's name in `spacings.SPACINGS`.
        parameters: what the spacing takes besides.
        include_zero: whether a step is spent at the spacing's end; the solver's default if None.
        warps: whether proposals may put steps elsewhere than at the spacing's times, which some pipelines can't visit.
        small: the network that may take the first steps; None where there is none.
        turn: the network that takes the later steps of `full`, and of every proposal; None where there is none.
    """

    full: Schedule
    spacing: str
    parameters: tuple[tuple[str, float], ...] = ()
    include_zero: bool | None = None
    warps: bool = True
    small: NetworkSignature | None = None
    turn: Turn | None = None

    def __post_init__(self) -> None:
        if self.full.steps[0].coefficients is not None:
            raise InputError("baseline: steps that carry coefficients can't be respaced. Use `eta = 0` or `eta = 1`.")
        if self.full.num_steps < 2:
            raise InputError(
                f"num-steps: must be at least 2 to search, but got {self.full.num_steps}. Use `--num-steps 20`."
            )

    @property
    def num_blocks(self) -> int:
        """Blocks of the network, in execution order."""
        return self.full.networks[0].num_blocks

    @property
    def replaces(self) -> bool:
        """Whether blocks hand on tensors of their own shapes, as U-Nets' stages do, so that none can be left out."""
        return "replace" in self.full.networks[0].block_kinds

    @property
    def orders(self) -> dict[str, BlockOrder]:
        """The orders in which a depth adds blocks, by name; see `orders`."""
        return orders(self.num_blocks, self.replaces)

    @property
    def num_steps(self) -> int:
        return self.full.num_steps

    @cached_property
    def fewest_steps(self) -> int:
        """The smallest step count that a space proposes: an eighth of the full schedule's."""
        eighth = self.num_steps // 8
        return next(made for count in count_from(2) if (made := self._made_of(count)) and made >= eighth)

    @cached_property
    def least_steps(self) -> int:
        """How many steps the solver makes of the fewest times that it can, at least 2."""
        return next(made for count in count_from(2) if (made := self._made_of(count)))

    @cached_property
    def _counts(self) -> dict[int, int]:
        """How many steps the solver makes of each number of times, as far as it can."""
        return {count: made for count in range(1, self.num_steps + 1) if (made := self._made_of(count))}

    def _made_of(self, num_times: int) -> int | None:
        return num_evaluations(self.full.sampler, num_times)

    @property
    def guided(self) -> bool:
        """Whether each step evaluates the network without its condition too."""
        return guidance_at(self.full, 0) is not None

    def steps(self, num_steps: int, warp: float = 1.0) -> Schedule:
        """The full schedule with another number of steps.

        Args:
            num_steps: `least_steps` or more. Solvers that evaluate twice at a time can't have every number, and make
                the next lower one.
            warp: exponent on the progress along the spacing; 1 is the spacing itself, more puts more steps at the noise
                end.
        """
        intervals = self.num_intervals(num_steps)
        return self.placed(num_steps, None if warp == 1.0 else [(i / intervals) ** warp for i in range(intervals + 1)])

    def placed(self, num_steps: int, positions: Sequence[float] | None = None) -> Schedule:
        """The full schedule with another number of steps, at times of one's own.

        Args:
            num_steps: as in `steps`.
            positions: (`num_intervals` + 1,) progress along the spacing, rising from 0 at its first time to 1 at its
                last; the spacing's own times if None. Where the solver spends no step at the end, 1 is not visited.
        """
        if num_steps == self.num_steps and positions is None:
            return self.full
        sampler, num_times = self.full.sampler, self.num_times(num_steps)
        if positions is None:
            made = times(self.spacing, num_times, sampler.noise, include_zero=self._visits_end, **dict(self.parameters))
        else:
            grid = _grid(self.spacing, self.parameters, sampler.noise)
            made = [_read_off(grid, position) for position in positions[:num_times]]
        if self.turn is None:
            return respaced(self.full, made)
        one = tuple(replace(step, network=0) for step in self.full.steps)
        return self.turn.taken(respaced(replace(self.full, networks=self.full.networks[:1], steps=one), made))

    def progress(self, time: float) -> float:
        """The progress along the spacing of a time, the inverse of what `placed` does; the nearer end where it lies
        outside."""
        return _find(_grid(self.spacing, self.parameters, self.full.sampler.noise), time)

    def num_times(self, num_steps: int) -> int:
        """How many times of the spacing the solver makes so many steps of, or the next lower number."""
        return max(count for count, made in self._counts.items() if made <= num_steps)

    def num_made(self, num_steps: int) -> int:
        """How many steps the solver makes where so many are asked for: as many, or the next lower number."""
        return self._counts[self.num_times(num_steps)]

    def num_intervals(self, num_steps: int) -> int:
        """How many intervals so many steps divide the spacing into."""
        return max(1, self.num_times(num_steps) - self._visits_end)

    @property
    def _visits_end(self) -> bool:
        """Whether a step is spent at the spacing's end."""
        if self.include_zero is None:
            return find_solver(self.full.sampler.name).include_zero
        return self.include_zero


@lru_cache(maxsize=64)
def _grid(spacing: str, parameters: tuple[tuple[str, float], ...], noise: Noise) -> list[float]:
    """The spacing's times on a fine grid of its progress."""
    fine = min(256, most_steps(noise, include_zero=False))
    return times(spacing, fine, noise, include_zero=True, **dict(parameters))


def _read_off(grid: Sequence[float], progress: float) -> float:
    """The time at a progress, 0..1, between the grid's."""
    position = progress * (len(grid) - 1)
    low = min(int(position), len(grid) - 2)
    return grid[low] + (grid[low + 1] - grid[low]) * (position - low)


def _find(grid: Sequence[float], time: float) -> float:
    """The progress, 0..1, at which a falling grid has a time."""
    high = min(max(bisect_left(grid, -time, key=lambda each: -each), 1), len(grid) - 1)
    before, after = grid[high - 1], grid[high]
    share = (before - time) / (before - after) if before > after else 0.0
    return (high - 1 + min(max(share, 0.0), 1.0)) / (len(grid) - 1)
