"""What lists and figures need of a schedule, kept beside it: thousands are listed, and few are looked at whole."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Any

from ...backends.plan import DECODE, SOLVER_STEP, compile_plan
from ...backends.schedule import Schedule, block_evaluations, canonical, depths, parse

# Of how an outline is worked out, and of the names that plans give to kinds of calls. Others are worked out again.
_VERSION = 1


@dataclass(frozen=True)
class ScheduleSummary:
    """A schedule's costs.

    Attributes:
        digest: the schedule's.
        num_steps: its steps.
        num_blocks: of its first network.
        block_evaluations: of one image, guidance branches counted.
        mean_depth: blocks that run, averaged over the steps.
        calls: how often its plan makes calls of each kind, by `kind_key`, for each of its networks.
    """

    digest: str
    num_steps: int
    num_blocks: int
    block_evaluations: int
    mean_depth: float
    calls: tuple[Mapping[str, int], ...]


@dataclass(frozen=True, eq=False)
class StoredSchedule:
    """A schedule in the database: its outline at once, and all of it when it is asked for."""

    outline: ScheduleSummary
    text: str

    @cached_property
    def schedule(self) -> Schedule:
        return parse(self.text)


def summarized(schedule: Schedule) -> StoredSchedule:
    """A schedule as a database would have it."""
    return StoredSchedule(summarize(schedule), canonical(schedule).decode())


@cache
def kind_key(kind: str) -> str:
    """What stands for a kind of call, whose name may be long."""
    return hashlib.sha256(kind.encode()).hexdigest()[:16]


@lru_cache(maxsize=512)
def summarize(schedule: Schedule) -> ScheduleSummary:
    """The outline of a valid schedule; a study asks for those of its baselines again and again."""
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
    """As it is stored."""
    return {
        "version": _VERSION,
        "num_steps": found.num_steps,
        "num_blocks": found.num_blocks,
        "block_evaluations": found.block_evaluations,
        "mean_depth": found.mean_depth,
        "calls": [dict(each) for each in found.calls],
    }


def summary_from_json(digest: str, stored: Mapping[str, Any]) -> ScheduleSummary:
    """The inverse of `summary_to_json`, for one of this version."""
    return ScheduleSummary(
        digest=digest,
        num_steps=stored["num_steps"],
        num_blocks=stored["num_blocks"],
        block_evaluations=stored["block_evaluations"],
        mean_depth=stored["mean_depth"],
        calls=tuple(stored["calls"]),
    )


def stored_schedule(digest: str, text: str, stored: Mapping[str, Any] | None) -> StoredSchedule:
    """A schedule as the database has it, with an outline of this version."""
    if stored is not None and stored["version"] == _VERSION:
        return StoredSchedule(summary_from_json(digest, stored), text)
    return StoredSchedule(summarize(parse(text)), text)
