"""What a search space is.

A space is a set of independent Optuna distributions and a pure function from their values to a `Schedule`. All spaces
keep these promises, which one conformance suite checks:

* every point of the distributions gives a valid schedule; nothing has to be refused, because a value that could not be
  (reuse with nothing stored) is repaired by construction;
* the same parameters give the same schedule, digest included;
* the full schedule is one of the points;
* `parameters(schedule)` is the inverse wherever it is not None.

The sets are flat and small on purpose. Multivariate TPE models the parameters that all trials share, so a conditional
space falls back to independent sampling; and 150 trials reach .99 of the exact hypervolume with three-parameter curves
where 8 free integers reach .84 and 24 reach .36. A monotone staircase made of nested bounds does no better than random
search, so `staircase` sorts.

The spaces stand here by name. The default is the one that measured best on the bundled checkpoint.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from ...backends.errors import InputError, nearest
from ...backends.schedule import DROP, REUSE, Action, Schedule, block_evaluations, forecast
from .frame import BlockOrder, FullSchedule

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from .levers import Parameters


TAILS: dict[str, Action] = {"drop": DROP, "reuse": REUSE, "forecast-1": forecast(1), "forecast-2": forecast(2)}


class Space(ABC):
    """One family of schedules.

    Attributes:
        name: its name on the command line.
    """

    name: ClassVar[str]

    def __init__(self, frame: FullSchedule) -> None:
        self.frame = frame

    @abstractmethod
    def distributions(self) -> dict[str, BaseDistribution]:
        """The parameters, each independent of the others."""

    @abstractmethod
    def build(self, parameters: Mapping[str, Any]) -> Schedule:
        """The schedule of one point."""

    @abstractmethod
    def known_points(self) -> Iterator[Parameters]:
        """Points that are known shapes: the full schedule first, then fewer steps, uniform depths and the rest."""

    @abstractmethod
    def warm_starts(self) -> list[Parameters]:
        """Points to try first: shapes that were good on other networks, spread over costs."""

    @property
    def words(self) -> str:
        """What it leaves open, for people."""
        return f"{self.name} ({', '.join(self.distributions())})"

    def reach(self) -> tuple[int, int]:
        """The fewest and the most block evaluations of its schedules: of those of its known points and warm starts."""
        work = [block_evaluations(self.build(each)) for each in (*self.known_points(), *self.warm_starts())]
        return min(work), max(work)

    def parameters(self, schedule: Schedule) -> Parameters | None:
        """A point whose schedule is this one, or None where there is no known point of it."""
        return self._by_digest.get(schedule.digest)

    @cached_property
    def _by_digest(self) -> dict[str, Parameters]:
        """The known points by their schedules' digests; the first one where several are one schedule."""
        found: dict[str, Parameters] = {}
        for point in self.known_points():
            found.setdefault(self.build(point).digest, point)
        return found

    def _order(self, parameters: Mapping[str, Any]) -> BlockOrder:
        """The blocks in the order in which a depth adds them."""
        only = next(iter(self.frame.orders))
        return self.frame.orders[parameters.get("keep", only)]

    @property
    def _tails(self) -> tuple[str, ...]:
        """What may stand in for blocks that don't run; the first one does in known points."""
        return tuple(name for name in TAILS if name != "drop" or not self.frame.replaces)

    def _few(self, share: float) -> int:
        """A share of the full schedule's steps, not fewer than the space has."""
        return max(self.frame.fewest_steps, round(share * self.frame.num_steps))

    def _step_counts(self) -> Iterator[int]:
        return iter(range(self.frame.num_steps, self.frame.fewest_steps - 1, -1))


def ramp(progress: float, first: float, last: float, bend: float) -> int:
    """The whole depth at a point of the curve first + (last − first) · progress^bend."""
    return round(first + (last - first) * progress**bend)


# Each with its class, which is imported where one is made: `--help` lists the names.
SPACES = {
    "free": "free:Free",
    "mixed": "curves:Mixed",
    "curve": "curves:Curve",
    "snr-curve": "curves:SnrCurve",
    "cache": "curves:Cache",
    "staircase": "segments:Staircase",
    "segments": "segments:Segments",
}


def make_space(name: str, frame: FullSchedule, levers: Mapping[str, Any] | None = None) -> Space:
    """The space of that name for one study's frame.

    Args:
        levers: those of the space `free` that are fixed or bounded; see `limits.read_limits`.

    Raises:
        InputError: there is no such space, or a lever can't have such values.
    """
    check_space(name)
    module, _, kind = SPACES[name].partition(":")
    made = getattr(importlib.import_module(f".{module}", __package__), kind)
    if not levers:
        return made(frame)
    if name != "free":
        raise InputError(f"levers: only those of the space `free` can be fixed, but the space is `{name}`. Omit them.")
    return made(frame, levers)


def check_space(name: str) -> None:
    """Raises InputError, with the nearest name, unless there is a space of that name."""
    if name not in SPACES:
        raise InputError(f"space: `{name}` is not known. {nearest(name, SPACES)}")
