"""What all proposals of one study share, and how depths become the rows of a schedule.

A frame is the full schedule of the study's weights. A proposal keeps its network, solver and guidance and chooses how
many steps there are, where they stand, and what each block does.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count as count_from

from ..backends.errors import InputError
from ..backends.noise_schedules import marginal_at
from ..backends.schedule import DROP, RUN, Action, Noise, Schedule, guidance_at
from ..backends.solvers import find, num_evaluations, respaced
from ..backends.spacings import FLOW_END, most_steps, times

Row = tuple[Action, ...]


@dataclass(frozen=True)
class Frame:
    """The full schedule, and the spacing that its times came from.

    Attributes:
        full: every block runs at every step; its `num_steps` is the most a proposal may have.
        spacing: the spacing's name in `spacings.SPACINGS`.
        parameters: what the spacing takes besides.
    """

    full: Schedule
    spacing: str
    parameters: tuple[tuple[str, float], ...] = ()

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
    def num_steps(self) -> int:
        """Steps of the full schedule."""
        return self.full.num_steps

    @property
    def fewest_steps(self) -> int:
        """The smallest step count that a space proposes: an eighth of the full schedule's, at least 2 times."""
        least = next(made for count in count_from(2) if (made := num_evaluations(self.full.sampler, count)))
        return max(least, self.num_steps // 8)

    @property
    def guided(self) -> bool:
        """Whether each step evaluates the network without its condition too."""
        return guidance_at(self.full, 0) is not None

    def steps(self, num_steps: int, warp: float = 1.0) -> Schedule:
        """The full schedule with another number of steps.

        Args:
            num_steps: `fewest_steps` or more. Solvers that evaluate twice at a time can't have every number, and make
                the next lower one.
            warp: exponent on the progress along the spacing; 1 is the spacing itself, more puts more steps at the noise
                end.
        """
        if num_steps == self.num_steps and warp == 1.0:
            return self.full
        sampler = self.full.sampler
        num_times = max(
            count for count in range(1, num_steps + 1) if (num_evaluations(sampler, count) or math.inf) <= num_steps
        )
        include_zero = find(sampler.name).include_zero
        return respaced(self.full, _warped(self.spacing, self.parameters, num_times, sampler.noise, include_zero, warp))


@lru_cache(maxsize=4096)
def _warped(
    spacing: str,
    parameters: tuple[tuple[str, float], ...],
    num_steps: int,
    noise: Noise,
    include_zero: bool,
    warp: float,
) -> tuple[float, ...]:
    """A spacing whose progress u from noise (0) to data (1) is replaced by u^warp, read off a fine grid of times."""
    if warp == 1.0:
        return tuple(times(spacing, num_steps, noise, include_zero=include_zero, **dict(parameters)))
    intervals = max(1, num_steps - 1 if include_zero else num_steps)
    fine = min(256, most_steps(noise, include_zero=False))
    grid = times(spacing, fine, noise, include_zero=True, **dict(parameters))
    found: list[float] = []
    for i in range(num_steps):
        position = (i / intervals) ** warp * (fine - 1)
        low = min(int(position), fine - 2)
        found.append(grid[low] + (grid[low + 1] - grid[low]) * (position - low))
    return tuple(found)


def log_snr(schedule: Schedule) -> list[float]:
    """ln(α/σ) at each step, rising from noise to data. Pure noise, where it is infinite, counts as a step beside it."""
    sampler = schedule.sampler
    nearest = {"flow": 1 - FLOW_END}.get(sampler.time, math.inf)
    return [marginal_at(sampler.noise, sampler.time, min(step.time, nearest)).log_snr for step in schedule.steps]


def leave_guidance(schedule: Schedule, share: float) -> Schedule:
    """The schedule without the unconditional pass after this share of its steps, 0..1, counted from the noise."""
    guided = round(share * schedule.num_steps)
    steps = (step if s < guided else replace(step, unconditional="skip") for s, step in enumerate(schedule.steps))
    return replace(schedule, steps=tuple(steps))


def with_rows(schedule: Schedule, rows: Sequence[Row], name: str | None = None) -> Schedule:
    """The schedule with these actions, one row a step and one action a block."""
    assert len(rows) == schedule.num_steps
    steps = tuple(replace(step, blocks=row) for step, row in zip(schedule.steps, rows, strict=True))
    return replace(schedule, steps=steps, name=name)


def exit_row(num_blocks: int, depth: int, tail: Action = DROP) -> Row:
    """Run the first `depth` blocks; give the rest the tail action."""
    return (RUN,) * depth + (tail,) * (num_blocks - depth)


def exit_rows(num_blocks: int, depths: Sequence[int], tail: Action = DROP) -> list[Row]:
    """A row per depth. With a tail that reads stored values the first step runs whole: nothing is stored before it."""
    rows = [exit_row(num_blocks, depth, tail) for depth in depths]
    return rows if tail == DROP else [exit_row(num_blocks, num_blocks), *rows[1:]]


def refreshed_rows(num_blocks: int, depths: Sequence[int], interval: int, shallow: int, tail: Action) -> list[Row]:
    """Every `interval`-th step runs to its depth; between, `shallow` blocks run and the tail stands in for the others.

    What no refresh ran is left out, so every value that is read was stored: at a step between two refreshes the blocks
    from `shallow` up to the last refresh's depth get the tail action, the blocks beyond it are dropped.

    Args:
        num_blocks: blocks of the network.
        depths: exit depth of each step, 0..num_blocks; those between refreshes are not looked at.
        interval: 1 or more; 1 makes each step a refresh.
        shallow: blocks that run between refreshes, 0..num_blocks.
        tail: what stands in for the blocks that ran at the refresh.
    """
    rows: list[Row] = []
    reach = 0
    for index, depth in enumerate(depths):
        if index % interval == 0:
            reach = depth
            rows.append(exit_row(num_blocks, depth))
        else:
            kept = min(shallow, reach)
            rows.append(exit_row(reach, kept, tail) + (DROP,) * (num_blocks - reach))
    return rows
