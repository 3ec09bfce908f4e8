"""What is measured: at each step of a full schedule, every other thing that it may do, after what came before.

A chain is what a few neighbouring steps do; its last step is the one that is measured, and all others run whole. Chains
of one option say what a step costs by itself. Longer ones say what it costs after the steps before it: a value that is
reused again, older each time, as in DPCache (Cui et al. 2026, arXiv 2602.22654), or two exits in a row.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...backends.errors import InputError
from ...backends.schedule import Schedule, block_evaluations, branches_at
from ..spaces.base import TAILS
from ..spaces.frame import BlockOrder, FullSchedule, exit_row, with_rows

NEEDS = {"drop": 0, "reuse": 1, "forecast-1": 2, "forecast-2": 3}  # whole steps before, whose values a stand-in reads


@dataclass(frozen=True)
class Option:
    """What a step may do: the first `depth` blocks of the order run, and the stand-in does what the others would."""

    depth: int
    stand_in: str

    @property
    def needs(self) -> int:
        """How many steps in a row must have run whole just before it, or before others like it."""
        return NEEDS[self.stand_in]


Chain = tuple[Option, ...]


@dataclass(frozen=True)
class Grid:
    """What is measured at one number of steps.

    Attributes:
        full: every block runs at every step.
        order: the blocks in the order in which a depth adds them.
        options: what a step may do beside running whole.
        oldest: how often in a row a step may read what was stored.
        pairs: whether exits at neighbouring steps are measured together too.
    """

    full: Schedule
    order: BlockOrder
    options: tuple[Option, ...]
    oldest: int
    pairs: bool

    @property
    def num_steps(self) -> int:
        return self.full.num_steps

    def cost(self, s: int, option: Option | None) -> int:
        """Block evaluations of a step for one image, guidance branches counted; None runs whole."""
        return (len(self.order) if option is None else option.depth) * len(branches_at(self.full, s))

    def chains(self, s: int) -> Iterator[Chain]:
        """Those that end at a step."""
        for option in self.options:
            for age in range(1, self.oldest + 1 if option.needs else 2):
                chain = (option,) * age
                if s - age + 1 >= option.needs and self._is_of_one_network(s, chain):
                    yield chain
        exits = [option for option in self.options if not option.needs]
        if self.pairs and s > 0:
            yield from ((before, after) for before in exits for after in exits)

    def _is_of_one_network(self, s: int, chain: Chain) -> bool:
        """Whether what a chain reads was stored by the network that reads it, where networks take turns."""
        return self.full.steps[self.first(s, chain)].network == self.full.steps[s].network

    def first(self, s: int, chain: Chain) -> int:
        """The step from which a trajectory with a chain must be run again, so that what it reads is stored."""
        return s - len(chain) + 1 - chain[0].needs

    def schedule(self, s: int, chain: Chain) -> Schedule:
        """The full schedule with a chain that ends at step `s`."""
        rows = [exit_row(self.order, len(self.order))] * self.num_steps
        for place, option in enumerate(chain, start=s - len(chain) + 1):
            rows[place] = exit_row(self.order, option.depth, TAILS[option.stand_in])
        return with_rows(self.full, rows)

    def path_schedule(self, path: Sequence[Option | None]) -> Schedule:
        """The schedule in which each step does its own; None runs whole."""
        whole = exit_row(self.order, len(self.order))
        rows = [whole if each is None else exit_row(self.order, each.depth, TAILS[each.stand_in]) for each in path]
        return with_rows(self.full, rows)

    def work(self, s: int) -> int:
        """Block evaluations for one image of all chains that end at a step."""
        total = 0
        for chain in self.chains(s):
            first = self.first(s, chain)
            ran = {s - len(chain) + 1 + i: option for i, option in enumerate(chain)}
            total += sum(self.cost(place, ran.get(place)) for place in range(first, self.num_steps))
        return total

    @property
    def full_work(self) -> int:
        """Block evaluations of the full schedule for one image."""
        return block_evaluations(self.full)


@dataclass(frozen=True)
class Choices:
    """What a calibration measures; empty where it chooses itself.

    Attributes:
        step_counts: numbers of steps; by default the full schedule's, halved again and again down to 3.
        depths: how many blocks run; by default five, evenly spread from 1 on.
        stand_ins: what may do what the others would.
        cached_depths: how many of the depths, from the lowest on by twos, are combined with what reads stored values.
        oldest: how often in a row stored values may be read.
        pairs_up_to: exits at neighbouring steps are measured together where there are no more steps than this.
        omits_full: whether nothing is measured at the full schedule's own number of steps, which costs most.
    """

    step_counts: tuple[int, ...] = ()
    depths: tuple[int, ...] = ()
    stand_ins: tuple[str, ...] = ("drop", "reuse")
    cached_depths: int = 2
    oldest: int = 2
    pairs_up_to: int = 10
    omits_full: bool = False


def make_grids(frame: FullSchedule, choices: Choices) -> list[Grid]:
    """The grids of all numbers of steps, most steps first.

    Raises InputError: a number that the network or the solver doesn't have, or nothing is left to measure.
    """
    blocks, order = frame.num_blocks, next(iter(frame.orders.values()))
    depths = choices.depths or tuple(sorted({1 + round(i * blocks / 6) for i in range(5)} - {blocks}))
    lowest = 0 if frame.replaces else 1
    if wrong := [each for each in depths if not lowest <= each < blocks]:
        raise InputError(
            f"depths: must be from {lowest} to {blocks - 1}, since the network has {blocks} blocks and all of them are "
            f"measured anyway, but got {wrong[0]}. Use --depths {lowest},{max(lowest, blocks // 2)}."
        )
    stand_ins = [name for name in choices.stand_ins if name != "drop" or not frame.replaces]
    options = [
        Option(depth, name)
        for name in stand_ins
        for depth in (depths if name == "drop" else depths[::2][: choices.cached_depths])
    ]
    counts = choices.step_counts or _halved(frame)
    if wrong := [each for each in counts if not frame.least_steps <= each <= frame.num_steps]:
        raise InputError(
            f"step-counts: must be from {frame.least_steps} to the full schedule's {frame.num_steps}, but got "
            f"{wrong[0]}. Use --step-counts {frame.num_steps}."
        )
    if not options:
        raise InputError("stand-ins: blocks of this network can't be dropped, only reused. Use --stand-ins reuse.")
    made = {frame.num_made(count): frame.steps(count) for count in sorted({frame.num_steps, *counts}, reverse=True)}
    return [
        Grid(full, order, tuple(options), choices.oldest, full.num_steps <= choices.pairs_up_to)
        for full in made.values()
    ]


def measured_grids(grids: Sequence[Grid], choices: Choices) -> Sequence[Grid]:
    """The grids whose chains are measured; the first one is there in any case, for the full schedule's images."""
    return grids[1:] if choices.omits_full and len(grids) > 1 else grids


def _halved(frame: FullSchedule) -> tuple[int, ...]:
    counts, count = [frame.num_steps], frame.num_steps
    while (count := -(-count // 2)) >= max(frame.least_steps, 3) and count != counts[-1]:
        counts.append(count)
    return tuple(counts)
