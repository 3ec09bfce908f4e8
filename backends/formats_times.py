"""A list of times, JSON or numbers with commas: when to evaluate the network, with all of it running.

The times are what the schedule's `sampler.time` says: train indices, σ, or flow's 1 → 0. Over σ and flow a last 0 is
where the last step goes, as in ComfyUI's ManualSigmas and in the lists of Align Your Steps; over train indices, 0 is a
time.

Standard library only.
"""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

from .formats_mask import check_one_kind_of_step, network_of
from .formats_text import numbers, refuse, show
from .schedule import RUN, Sampler, Schedule, Step, validate
from .solvers import rows, with_coefficients

NAME = "timesteps"
# What networks receive in place of a step's time: nothing else, ¼ ln σ (EDM), 1000 · t (flow-matching networks).
NETWORK_TIMES: tuple[Callable[[float], float | None], ...] = (
    lambda time: None,
    lambda time: 0.25 * math.log(time) if time > 0 else None,
    lambda time: 1000 * time,
)


def write_times(schedule: Schedule) -> str:
    """The times as a JSON list, train indices without a point where they are whole.

    Raises:
        InputError: blocks do anything but run, or a step says more than its time.
    """
    check_one_kind_of_step(schedule, NAME)
    for s, step in enumerate(schedule.steps):
        other = next((action.kind for action in step.blocks if action != RUN), None)
        if other is not None:
            refuse(NAME, f"step {s}: every block must run, for the format has times alone", f'"{other}"', 'Use "run".')
    times = [step.time for step in schedule.steps]
    for s, (before, time) in enumerate(pairwise(times), start=1):
        if time >= before:
            refuse(NAME, f"step {s}: times must fall", f"{time} twice", "Use a solver that evaluates each time once.")
    _network_time(schedule)
    whole = schedule.sampler.time == "train-index"
    return json.dumps([int(time) if whole and time.is_integer() else time for time in times]) + "\n"


def _network_time(schedule: Schedule) -> Callable[[float], float | None]:
    """The rule that gives every step's `network_time`. Raises InputError where none of the known ones does."""
    fitting = [
        rule for rule in NETWORK_TIMES if all(_same(step.network_time, rule(step.time)) for step in schedule.steps)
    ]
    if not fitting:
        got = f"{schedule.steps[0].network_time} at {schedule.steps[0].time}"
        refuse(NAME, "network_time must follow from time (itself, ¼ ln σ or 1000 · t)", got, "Use --to exeunt.")
    return fitting[0]


def _same(stated: float | None, expected: float | None) -> bool:
    if stated is None or expected is None:
        return stated is expected
    return math.isclose(stated, expected, rel_tol=1e-9, abs_tol=1e-12)


def read_times(text: str, base: Schedule | None) -> Schedule:
    """The times on the network, solver and guidance of `base`, with every block running.

    Raises:
        InputError: the text is no list of falling numbers, or `base` says more than the new steps can take over.
        ScheduleError: a time is out of the range of `base`.
    """
    base, signature = network_of(base, NAME)
    check_one_kind_of_step(base, f"{NAME}: --base")
    network_time = _network_time(base)
    blocks = (RUN,) * signature.num_blocks
    steps = tuple(
        Step(time=time, blocks=blocks, network_time=network_time(time)) for time in _times(text, base.sampler)
    )
    schedule = replace(base, steps=steps, name=None, measured=(), provenance=None)
    validate(schedule)
    return schedule if base.steps[0].coefficients is None else _recomputed(schedule, base)


def _times(text: str, sampler: Sampler) -> list[float]:
    found = numbers(text)
    if found is None:
        refuse(
            NAME, "times must be numbers with commas, or a JSON list", show(text.strip()), "Write such as 999,500,0."
        )
    times = [float(time) for time in found]
    if sampler.time != "train-index" and len(times) > 1 and times[-1] == 0 and sampler.final == "zero":
        times.pop()
    for before, time in pairwise(times):
        if not time < before:
            refuse(NAME, "times must fall", f"{time} after {before}", "Sort them from noise to data, each once.")
    return times


def _recomputed(schedule: Schedule, base: Schedule) -> Schedule:
    """With the coefficients of the solver at the new times, if that solver is what gave the base its own."""
    bare = replace(base, steps=tuple(replace(step, coefficients=None) for step in base.steps))
    carried = [step.coefficients for step in base.steps]
    if rows(bare) != carried:
        rule = "--base must have a named solver, whose coefficients at other times are known"
        refuse(NAME, rule, "coefficients of its own", "Give one without coefficients.")
    return with_coefficients(schedule)
