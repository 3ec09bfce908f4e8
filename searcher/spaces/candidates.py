"""What a study measures: baselines and proposals.

Baselines are the schedules that people use without a search, each a first-class row of the study. A front is worth
something only beside what needs no search: fewer steps, one depth for all steps, the published hand-made staircase, a
fixed-interval cache. Every one is measured as a proposal is, and says on which weights it ran.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import TypeVar

from ...backends.schedule import Schedule
from ...studies.config.families import DEFAULT_FAMILIES, check_families
from ...studies.store.records import ScheduleSummary, summarized
from . import baselines
from .frame import FullSchedule


@dataclass(frozen=True)
class Candidate:
    """What is measured: a baseline or a proposal.

    Attributes:
        label: unique in the study, such as "full", "12 steps · fashion-dit" or "trial 17".
        role: "baseline" for what needs no search, "trial" for what was proposed.
        family: a baseline's family; `FITTED` for a proposal's schedule with fitted rows, else empty for proposals.
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


FITTED = "fitted"

_T = TypeVar("_T")

# By name, in the order in which they take turns. Those of `_NEED_EXITS` are for the study's own weights alone.
_MADE: Mapping[str, Callable[[FullSchedule], list[baselines.Row]]] = {
    "full": baselines.full_schedule,
    "fewer-steps": baselines.fewer_steps,
    "staircase": baselines.published_staircase,
    "uniform-depth": baselines.uniform_depths,
    "interval-reuse": baselines.interval_reuse,
    "fora": baselines.fora,
    "solver": baselines.solvers,
    "all-solvers": baselines.all_solvers,
    "taylorseer": baselines.taylorseer,
    "delta-dit": baselines.delta_dit,
    "guidance-interval": baselines.guidance_interval,
    "stitch": baselines.stitch,
}
_NEED_EXITS = frozenset({"staircase", "uniform-depth"})


def list_baselines(frames: Mapping[str, FullSchedule], families: Iterable[str] = DEFAULT_FAMILIES) -> list[Candidate]:
    """The baselines of a study, in the order in which they are worth measuring.

    The full schedules come first, those of the other weights leading: the first row is what every speed-up and excess
    distance is stated against. Then the families take turns, each with those members first that halve its widest gap,
    so that stopping anywhere leaves even ladders.

    Args:
        frames: by the names of the weights; the study's own come first and get everything. Other weights of the same
            network, such as the ones before fine-tuning, get what needs no trained exits, and uses them at all.
        families: which are wanted. The full schedules are there in any case, since every speed-up is stated against
            them.

    Raises:
        InputError: an unknown family.
    """
    wanted = set(families)
    check_families(wanted)
    own, *others = frames
    places = [*others, own]
    turns = [
        [(name, family, row) for row in made(frames[name]) if name == own or not all(s.network for s in row[1].steps)]
        for name in places
        for family, made in _MADE.items()
        if family in wanted - {"full"} and not (family in _NEED_EXITS and name != own)
    ]
    full = [(name, "full", baselines.full_schedule(frames[name])[0]) for name in places]
    # One row for each schedule and weights: on a shallow network a quarter of the blocks is none of them.
    unique: dict[tuple[str, str], tuple[str, str, baselines.Row]] = {}
    for name, family, row in [*full, *_take_turns(turns)]:
        unique.setdefault((name, row[1].digest), (name, family, row))
    return [_candidate(row, family, name, own) for name, family, row in unique.values()]


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
    return _candidate(baselines.full_schedule(frames[name])[0], "full", name, own)


def _candidate(row: baselines.Row, family: str, weights: str, own: str) -> Candidate:
    """A baseline's label says on which weights it runs where they are not the study's own."""
    label, schedule = row
    label = label if weights == own else f"{label} · {weights}"
    return Candidate(label, "baseline", family, weights, summarized(schedule))


def _take_turns(rows: Iterable[Sequence[_T]]) -> list[_T]:
    return [entry for entry in chain.from_iterable(zip_longest(*rows)) if entry is not None]
