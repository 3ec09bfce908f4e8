"""What a study measures: baselines and proposals.

Baselines are the schedules that people use without a search, each a first-class row of the study. A front is worth
something only beside what needs no search: fewer steps, one depth for all steps, the published hand-made staircase, a
fixed-interval cache. Every one is measured as a proposal is, and says on which weights it ran.
"""

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import TypeVar

from ...backends.schedule import REUSE, Schedule, with_exits
from ...studies.config.families import FAMILIES, check_families
from ...studies.store.records import ScheduleSummary, summarized
from .frame import FullSchedule, exit_row, exit_rows, with_rows


@dataclass(frozen=True)
class Candidate:
    """What is measured: a baseline or a proposal.

    Attributes:
        label: unique in the study, such as "full", "12 steps · fashion-dit" or "trial 17".
        role: "baseline" for what needs no search, "trial" for what was proposed.
        family: a baseline's family; empty for proposals.
        weights: the name of the weights that it runs on.
        stored: what it does.
        trial: its number in Optuna's study, if it has one.
    """

    label: str
    role: str
    family: str
    weights: str
    stored: ScheduleSummary
    trial: int | None = None

    @classmethod
    def proposed(cls, label: str, weights: str, schedule: Schedule, trial: int | None = None) -> "Candidate":
        """One that a sampler or a user proposed."""
        return cls(label, "trial", "", weights, summarized(schedule), trial)

    @property
    def schedule(self) -> Schedule:
        """All of what it does; its digest and costs stand in the summary."""
        return self.stored.schedule

    @property
    def key(self) -> tuple[str, str]:
        """What tells candidates apart: two proposals of one schedule are one candidate."""
        return self.stored.digest, self.weights


_T = TypeVar("_T")

# Moon et al. 2024 (arXiv 2408.05927): blocks of 28 for t in [0, 100), [100, 200), …; the only one that was published.
PUBLISHED_STAIRCASE = (28, 28, 24, 24, 20, 20, 16, 16, 12, 12)
PUBLISHED_BLOCKS = 28

_Named = tuple[str, str, Schedule]  # label, family, what it does


def list_baselines(frames: Mapping[str, FullSchedule], families: Iterable[str] = FAMILIES) -> list[Candidate]:
    """The baselines of a study, in the order in which they are worth measuring.

    The full schedules come first, those of the other weights leading: the first row is what every speed-up and excess
    distance is stated against. Then the families take turns, each with those members first that halve its widest gap,
    so that stopping anywhere leaves even ladders.

    Args:
        frames: by the names of the weights; the study's own come first and get everything. Other weights of the same
            network, such as the ones before fine-tuning, get what needs no trained exits.
        families: which are wanted. The full schedules are there in any case, since every speed-up is stated against
            them.

    Raises:
        InputError: an unknown family.
    """
    check_families(families)
    own, *others = frames
    places = [*others, own]
    exits = [(own, row) for row in _take_turns([_published(frames[own]), _uniform_depths(frames[own])])]
    free = [
        [(name, row) for row in family(frames[name])] for name in places for family in (_fewer_steps, _interval_reuse)
    ]
    full = [(name, _full(frames[name])) for name in places]
    # One row for each schedule and weights: on a shallow network a quarter of the blocks is none of them.
    unique: dict[tuple[str, str], tuple[str, _Named]] = {}
    for name, row in [*full, *_take_turns([*free[:2], exits, *free[2:]])]:
        unique.setdefault((name, row[2].digest), (name, row))
    return [_candidate(row, name, own) for name, row in unique.values() if row[1] in {"full", *families}]


# Fewer steps on each weights that come before any proposal: with the full schedules they say what is normal for guards.
FIRST_STEPS = 2


def first_baselines(baselines: Iterable[Candidate]) -> list[Candidate]:
    """Those that are measured before any proposal: the full schedules, and the first ones with fewer steps."""
    taken = Counter[str]()
    found: list[Candidate] = []
    for each in baselines:
        if each.family == "fewer-steps":
            taken[each.weights] += 1
        if each.family == "full" or (each.family == "fewer-steps" and taken[each.weights] <= FIRST_STEPS):
            found.append(each)
    return found


def first_baseline(frames: Mapping[str, FullSchedule]) -> Candidate:
    """The first of all baselines; see `list_baselines`."""
    own, *others = frames
    name = others[0] if others else own
    return _candidate(_full(frames[name]), name, own)


def _candidate(row: _Named, weights: str, own: str) -> Candidate:
    """A baseline's label says on which weights it runs where they are not the study's own."""
    label, family, schedule = row
    label = label if weights == own else f"{label} · {weights}"
    return Candidate(label, "baseline", family, weights, summarized(schedule))


def _full(frame: FullSchedule) -> _Named:
    return "full", "full", frame.full


def _fewer_steps(frame: FullSchedule) -> list[_Named]:
    made = map(frame.steps, _halving(range(frame.least_steps, frame.num_steps)))
    return [(f"{schedule.num_steps} steps", "fewer-steps", schedule) for schedule in made]


def _uniform_depths(frame: FullSchedule) -> list[_Named]:
    if frame.replaces:
        return []
    order = frame.orders["front"]
    return [
        (f"exit {depth}", "uniform-depth", with_rows(frame.full, exit_rows(order, [depth] * frame.num_steps)))
        for depth in _halving(range(1, frame.num_blocks))
    ]


def _interval_reuse(frame: FullSchedule) -> list[_Named]:
    made: list[_Named] = []
    for name, (keep, depth) in _kept(frame).items():
        order = frame.orders[keep]
        for interval in (2, 3, 4):
            depths = [depth if s % interval else len(order) for s in range(frame.num_steps)]
            rows = [exit_row(order, each, REUSE) for each in depths]
            made.append((f"{name}, every {interval}", "interval-reuse", with_rows(frame.full, rows)))
    return made


def _kept(frame: FullSchedule) -> dict[str, tuple[str, int]]:
    """What runs between two whole steps: an order and a depth, by the name that a baseline gets from it."""
    blocks = frame.num_blocks
    if frame.replaces:
        return {"DeepCache": ("outside", 2), "stages up alone": ("up", blocks // 2), "reuse all": ("outside", 0)}
    # FORA's interval (depth 0), and what DeepCache does to U-Nets.
    return {f"reuse from {depth}": ("front", depth) for depth in (blocks // 4, 0, blocks // 2)}


def _published(frame: FullSchedule) -> list[_Named]:
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
    depths = [rescaled[int(step.time) // 100] for step in frame.full.steps]
    return [("published staircase", "staircase", with_exits(frame.full, depths))]


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
