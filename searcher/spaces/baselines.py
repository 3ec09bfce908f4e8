"""Baselines: the schedules that people use without a search, each a first-class row of the study.

A front is only worth something beside what one gets for nothing: fewer steps, one depth for all steps, the published
hand-made staircase, a fixed-interval cache. Every one is measured as a proposal is, and says on which weights it ran.
"""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import TypeVar

from ...backends.errors import InputError
from ...backends.formats.ase import from_ase
from ...backends.schedule import REUSE, Schedule
from ...studies.config.families import FAMILIES
from .frame import FullSchedule
from .rows import exit_row, exit_rows, with_rows

_T = TypeVar("_T")

# Moon et al. 2024 (arXiv 2408.05927): blocks of 28 for t in [0, 100), [100, 200), …; the only one that was published.
PUBLISHED_STAIRCASE = (28, 28, 24, 24, 20, 20, 16, 16, 12, 12)
PUBLISHED_BLOCKS = 28


@dataclass(frozen=True)
class Baseline:
    """A schedule that needs no search.

    Attributes:
        label: unique among the baselines on the same weights, such as "12 steps".
        family: one of `FAMILIES`.
        weights: the name of the network that it runs on.
        schedule: what it does.
    """

    label: str
    family: str
    weights: str
    schedule: Schedule


def list_baselines(
    frame: FullSchedule, weights: str, others: Sequence[tuple[FullSchedule, str]] = ()
) -> list[Baseline]:
    """All baselines of a study, in the order in which they are worth measuring.

    The full schedules come first, those of the other weights leading: the first row is what every speed-up and excess
    distance is stated against. Then the families take turns, each with those members first that halve its widest gap,
    so that stopping anywhere leaves even ladders.

    Args:
        frame: the full schedule of the study's weights.
        weights: their name.
        others: frames and names of other weights of the same network, such as the ones before fine-tuning. They get
            what needs no trained exits; the study's own weights get everything.
    """
    places = [*others, (frame, weights)]
    full = [Baseline("full", "full", name, each.full) for each, name in places]
    exits = _take_turns([_published(frame, weights), _uniform_depths(frame, weights)])
    free = [family(each, name) for each, name in places for family in (_fewer_steps, _interval_reuse)]
    return _without_repeats([*full, *_take_turns([*free[:2], exits, *free[2:]])])


def _fewer_steps(frame: FullSchedule, weights: str) -> list[Baseline]:
    made = [frame.steps(count) for count in _halving(range(frame.least_steps, frame.num_steps))]
    return [Baseline(f"{schedule.num_steps} steps", "fewer-steps", weights, schedule) for schedule in made]


def _uniform_depths(frame: FullSchedule, weights: str) -> list[Baseline]:
    if frame.replaces:
        return []
    order, depths = frame.orders["front"], _halving(range(1, frame.num_blocks))
    made = {depth: with_rows(frame.full, exit_rows(order, [depth] * frame.num_steps)) for depth in depths}
    return [Baseline(f"exit {depth}", "uniform-depth", weights, schedule) for depth, schedule in made.items()]


def _interval_reuse(frame: FullSchedule, weights: str) -> list[Baseline]:
    """A whole step every k-th, and reuse between."""
    made: list[Baseline] = []
    for name, (keep, depth) in _kept(frame).items():
        order = frame.orders[keep]
        for interval in (2, 3, 4):
            depths = [depth if s % interval else len(order) for s in range(frame.num_steps)]
            rows = [exit_row(order, each, REUSE) for each in depths]
            made.append(Baseline(f"{name}, every {interval}", "interval-reuse", weights, with_rows(frame.full, rows)))
    return made


def _kept(frame: FullSchedule) -> dict[str, tuple[str, int]]:
    """What runs between two whole steps: an order and a depth, by the name that a baseline gets from it."""
    blocks = frame.num_blocks
    if frame.replaces:
        return {"DeepCache": ("outside", 2), "stages up alone": ("up", blocks // 2), "reuse all": ("outside", 0)}
    # FORA's interval (depth 0), and what DeepCache does to U-Nets.
    return {f"reuse from {depth}": ("front", depth) for depth in (blocks // 4, 0, blocks // 2)}


def _published(frame: FullSchedule, weights: str) -> list[Baseline]:
    """The published staircase, rescaled; nothing where times are no train indices of a process of 1,000 steps, or where
    no block can be dropped."""
    sampler = frame.full.sampler
    if (
        frame.replaces
        or sampler.time != "train-index"
        or sampler.noise.num_timesteps != 1000
        or frame.full.networks[0].granularity != "block"
    ):
        return []
    rescaled = [max(1, round(depth * frame.num_blocks / PUBLISHED_BLOCKS)) for depth in PUBLISHED_STAIRCASE]
    return [Baseline("published staircase", "staircase", weights, from_ase(rescaled, frame.full))]


def _halving(values: range) -> list[int]:
    """The values, each next one in the middle, by ratio, of the widest stretch that is left: 2..19 gives 6, 3, 11, 2, …

    By ratio: what a schedule loses goes with the ratio of its cost to the full one's, and cheap ones cost little.
    """
    ordered: list[int] = []
    stretches = deque([values])
    while stretches:
        stretch = stretches.popleft()
        if stretch:
            middle = round(math.sqrt(stretch[0] * stretch[-1]))
            ordered.append(middle)
            stretches.extend((range(stretch[0], middle), range(middle + 1, stretch[-1] + 1)))
    return ordered


def _take_turns(rows: Iterable[Sequence[_T]]) -> list[_T]:
    return [entry for entry in chain.from_iterable(zip_longest(*rows)) if entry is not None]


def _without_repeats(rows: Sequence[Baseline]) -> list[Baseline]:
    """One row for each schedule and weights: on a shallow network a quarter of the blocks is none of them."""
    unique: dict[tuple[str, str], Baseline] = {}
    for row in rows:
        unique.setdefault((row.weights, row.schedule.digest), row)
    return list(unique.values())


def select(rows: Sequence[Baseline], families: Sequence[str]) -> list[Baseline]:
    """The rows of these families. The full schedules always stay, since every speed-up is stated against them."""
    check_families(families)
    return [row for row in rows if row.family in {"full", *families}]


def check_families(families: Sequence[str]) -> None:
    """Raises InputError unless these are families."""
    for name in families:
        if name not in FAMILIES:
            raise InputError(f"baselines: `{name}` is not a family. Known: {', '.join(FAMILIES)}.")
