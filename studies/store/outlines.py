"""A schedule with its costs, which are stored beside it: thousands are listed, and few are looked at whole."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Any

from ...backends.plan import DECODE, SOLVER_STEP, compile_plan
from ...backends.schedule import Schedule, block_evaluations, depths, parse

# Of how costs are worked out, and of the names that plans give to kinds of calls. Others are worked out again.
COSTS_VERSION = 1


@dataclass(frozen=True, eq=False)
class ScheduleSummary:
    """A schedule with its costs. One from a database is parsed when all of it is asked for.

    Attributes:
        digest: the schedule's.
        num_steps: its steps.
        num_blocks: of its first network.
        block_evaluations: of one image, guidance branches counted.
        mean_depth: blocks that run, averaged over the steps.
        calls: how often its plan makes calls of each kind, by `kind_key`, for each of its networks.
        source: the schedule that it was made from, or the JSON text that a database has of it.
    """

    digest: str
    num_steps: int
    num_blocks: int
    block_evaluations: int
    mean_depth: float
    calls: tuple[Mapping[str, int], ...]
    source: Schedule | str

    @cached_property
    def schedule(self) -> Schedule:
        """All of it."""
        return parse(self.source) if isinstance(self.source, str) else self.source


_COSTS = ("num_steps", "num_blocks", "block_evaluations", "mean_depth")


@cache
def kind_key(kind: str) -> str:
    """What stands for a kind of call, whose name may be long."""
    return hashlib.sha256(kind.encode()).hexdigest()[:16]


@lru_cache(maxsize=512)
def summarized(schedule: Schedule) -> ScheduleSummary:
    """The summary of a valid schedule; a study asks for those of its baselines again and again."""
    calls = [Counter[str]() for _ in schedule.networks]
    for step in compile_plan(schedule).steps:
        calls[step.network].update(kind_key(call.kind) for call in step.calls)
    return ScheduleSummary(
        digest=schedule.digest,
        num_steps=schedule.num_steps,
        num_blocks=schedule.networks[0].num_blocks,
        block_evaluations=block_evaluations(schedule),
        mean_depth=sum(depths(schedule)) / schedule.num_steps,
        calls=tuple(calls),
        source=schedule,
    )


def batch_seconds(found: ScheduleSummary, medians: Mapping[str, float]) -> float | None:
    """Seconds per batch: the calls of a schedule on one network, the solver's arithmetic, and the decoder, added up.

    `medians` has the seconds of each timed kind of call by `kind_key`. None where a kind isn't timed.
    """
    fixed = (kind_key(SOLVER_STEP), kind_key(DECODE))
    calls = found.calls[0]
    if len(found.calls) > 1 or not calls or not {*calls, *fixed} <= medians.keys():
        return None
    called = sum(count * medians[key] for key, count in sorted(calls.items()))
    return called + found.num_steps * medians[fixed[0]] + medians[fixed[1]]


def summary_to_json(found: ScheduleSummary) -> dict[str, Any]:
    """What is stored of a summary beside its schedule."""
    costs = {name: getattr(found, name) for name in _COSTS}
    return {"version": COSTS_VERSION, **costs, "calls": [dict(each) for each in found.calls]}


def stored_schedule(digest: str, text: str, stored: Mapping[str, Any] | None) -> ScheduleSummary:
    """A schedule as the database has it; costs of another version are worked out again."""
    if stored is None or stored["version"] != COSTS_VERSION:
        return summarized(parse(text))
    costs = {name: stored[name] for name in _COSTS}
    return ScheduleSummary(digest=digest, **costs, calls=tuple(stored["calls"]), source=text)
