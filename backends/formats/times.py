"""A list of times, JSON or numbers with commas or spaces: when to evaluate the network, with all of it running.

The times are what `sampler.time` says: train indices, σ, or flow's 1 → 0. Each stands once: a solver that
evaluates twice at a time makes its own of them. Over σ and flow a last 0 is where the last step goes, as in ComfyUI's
ManualSigmas and in the lists of Align Your Steps; over train indices, 0 is a time.

Standard library only.
"""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

from ..schedule import RUN, Sampler, Schedule, Step, validate
from ..solvers.noise_schedules import marginal_at
from ..solvers.tables import SOLVER_TABLE, has_own_rows, with_coefficients
from .masks import check_one_kind_of_step, network_of
from .parsing import numbers, refuse, shortened
from .units import check_unit

_NAME = "timesteps"
_NAMED = f"Give one whose solver is {', '.join(SOLVER_TABLE)}, without coefficients."
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
    check_one_kind_of_step(schedule, _NAME)
    for s, step in enumerate(schedule.steps):
        other = next((action.kind for action in step.blocks if action != RUN), None)
        if other is not None:
            refuse(
                _NAME, f"step {s}: every block must run, since the format has only times", f'"{other}"', 'Use "run".'
            )
    times = _listed(schedule)
    _network_time(schedule)
    whole = schedule.sampler.time == "train-index"
    return json.dumps([int(time) if whole and time.is_integer() else time for time in times]) + "\n"


def _listed(schedule: Schedule) -> list[float]:
    """The times, each once, from which the solver makes those of its evaluations."""
    sampler, evaluated = schedule.sampler, [step.time for step in schedule.steps]
    times = [time for s, time in enumerate(evaluated) if s == 0 or time != evaluated[s - 1]]
    expanded = SOLVER_TABLE[sampler.name].expand(times, sampler) if sampler.name in SOLVER_TABLE else times
    if expanded != evaluated:
        got = ", ".join(f"{time:g}" for time in evaluated[:4])
        rule = f"times must be those that `{sampler.name}` makes from a list of times"
        refuse(_NAME, rule, f"{got}, …", "Use the format exeunt.")
    return times


def _network_time(schedule: Schedule) -> Callable[[float], float | None]:
    """The rule that gives every step's `network_time`. Raises InputError where none of the known ones does."""
    fitting = [
        rule for rule in NETWORK_TIMES if all(_same(step.network_time, rule(step.time)) for step in schedule.steps)
    ]
    if not fitting:
        got = f"{schedule.steps[0].network_time} at {schedule.steps[0].time}"
        refuse(_NAME, "network_time must follow from time (itself, ¼ ln σ or 1000 · t)", got, "Use the format exeunt.")
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
    base, signature = network_of(base, _NAME)
    check_one_kind_of_step(base, f"{_NAME}: --base")
    if base.sampler.name not in SOLVER_TABLE:
        got = f"`{base.sampler.name}`"
        refuse(_NAME, "--base must have a named solver, since its coefficients only hold at its own times", got, _NAMED)
    network_time, times = _network_time(base), _times(text, base.sampler)
    check_unit(times, base, _NAME)
    blocks, evaluated = (RUN,) * signature.num_blocks, SOLVER_TABLE[base.sampler.name].expand(times, base.sampler)
    steps = tuple(Step(time=time, blocks=blocks, network_time=network_time(time)) for time in evaluated)
    sampler = replace(base.sampler, initial_scale=_initial_scale(base, times[0]))
    schedule = replace(base, sampler=sampler, steps=steps, name=None, measured=(), provenance=None)
    validate(schedule)
    return schedule if base.steps[0].coefficients is None else _recomputed(schedule, base)


def _initial_scale(base: Schedule, first: float) -> float:
    """The scale of the first noise: where it is the base's σ at its first time, σ at the new one."""
    sampler, before = base.sampler, base.steps[0].time
    if sampler.initial_scale == 1 or first == before:
        return sampler.initial_scale
    if not math.isclose(sampler.initial_scale, marginal_at(sampler.noise, sampler.time, before).sigma):
        rule = f"the first time must be that of --base, {before:g}, because its initial_scale is not that time's σ"
        refuse(_NAME, rule, f"{first:g}", f"Begin with {before:g}.")
    return marginal_at(sampler.noise, sampler.time, first).sigma


def _times(text: str, sampler: Sampler) -> list[float]:
    found = numbers(text)
    if found is None:
        refuse(
            _NAME,
            "times must be numbers with commas or spaces, or a JSON list",
            shortened(text.strip()),
            "Write such as 999,500,0.",
        )
    times = [float(time) for time in found]
    if sampler.time != "train-index" and len(times) > 1 and times[-1] == 0 and sampler.final == "zero":
        times.pop()
    for before, time in pairwise(times):
        if not time < before:
            refuse(_NAME, "times must fall", f"{time} after {before}", "Sort them from noise to data, each once.")
    return times


def _recomputed(schedule: Schedule, base: Schedule) -> Schedule:
    """With the coefficients of the solver at the new times, if that solver is what gave the base its own."""
    if has_own_rows(base):
        rule = "--base must carry its solver's coefficients, since others only hold at its own times"
        refuse(_NAME, rule, "coefficients of its own", _NAMED)
    return with_coefficients(schedule)
