"""What every space chooses beside the depths: a table of levers, with their parameters and what these change.

A new lever is an entry of `LEVERS`. Its parameters come last among those that all spaces share, so that a study keeps
the order of those that it has.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from ...backends.schedule import EVALUATES_TWICE, Schedule
from ...backends.solvers.tables import find_solver
from .frame import FullSchedule, stitched

Parameters = dict[str, Any]
SMALL = "small_share"  # the parameter of the small network's steps


@dataclass(frozen=True)
class Lever:
    """One choice that all spaces share.

    Attributes:
        distributions: its parameters in Optuna, each independent of the others; none where the network, the solver or
            the pipeline leaves nothing to choose.
        whole: their values in the full schedule; those without a distribution are not looked at.
        change: the schedule with the lever set. It gets what the levers before it made of the full schedule, whose
            blocks all run.
    """

    distributions: Callable[[FullSchedule], Mapping[str, BaseDistribution]]
    whole: Callable[[FullSchedule], Parameters]
    change: Callable[[Schedule, FullSchedule, Mapping[str, Any]], Schedule] = lambda schedule, *_: schedule


def _step_distributions(frame: FullSchedule) -> Mapping[str, BaseDistribution]:
    # By ratio: the range is wide, and where quality begins to fall is not known before.
    count = IntDistribution(frame.fewest_steps, frame.num_steps, log=True)
    return {"num_steps": count} | ({"spacing": FloatDistribution(0.6, 1.6, step=0.1)} if frame.warps else {})


def _order_distributions(frame: FullSchedule) -> Mapping[str, BaseDistribution]:
    return {"keep": CategoricalDistribution(tuple(frame.orders))} if len(frame.orders) > 1 else {}


def _guidance_distributions(frame: FullSchedule) -> Mapping[str, BaseDistribution]:
    # Late steps hardly need guidance (Kynkäänniemi et al. 2024), and without it they cost half.
    return {"guided_share": FloatDistribution(0.3, 1.0, step=0.1)} if frame.guided else {}


def _leave_guidance(schedule: Schedule, frame: FullSchedule, parameters: Mapping[str, Any]) -> Schedule:
    """The schedule without the unconditional pass after a share of its steps, 0..1, counted from the noise."""
    if not frame.guided:
        return schedule
    guided = round(parameters["guided_share"] * schedule.num_steps)
    unguided = (replace(step, unconditional="skip") for step in schedule.steps[guided:])
    return replace(schedule, steps=(*schedule.steps[:guided], *unguided))


def _solver_orders(frame: FullSchedule) -> Mapping[str, BaseDistribution]:
    solver = find_solver(frame.full.sampler.name)
    free = len(solver.orders) > 1 and frame.full.sampler.name not in EVALUATES_TWICE
    return {"solver_order": CategoricalDistribution(solver.orders)} if free else {}


def _with_solver_order(schedule: Schedule, frame: FullSchedule, parameters: Mapping[str, Any]) -> Schedule:
    order = parameters.get("solver_order", schedule.sampler.order)
    return (
        schedule
        if order == schedule.sampler.order
        else replace(schedule, sampler=replace(schedule.sampler, order=order))
    )


def _early_distributions(frame: FullSchedule) -> Mapping[str, BaseDistribution]:
    # Guidance does harm where there is mostly noise (Kynkäänniemi et al. 2024).
    return {"unguided_share": FloatDistribution(0.0, 0.5, step=0.1)} if frame.guided else {}


def _leave_early_guidance(schedule: Schedule, frame: FullSchedule, parameters: Mapping[str, Any]) -> Schedule:
    """The schedule without the unconditional pass in a share of its steps, 0..1, counted from the noise."""
    if not frame.guided:
        return schedule
    unguided = round(parameters["unguided_share"] * schedule.num_steps)
    early = (replace(step, unconditional="skip") for step in schedule.steps[:unguided])
    return replace(schedule, steps=(*early, *schedule.steps[unguided:]))


def _small_distributions(frame: FullSchedule) -> Mapping[str, BaseDistribution]:
    # A small network does as well where there is mostly noise (T-Stitch, Pan et al. 2024).
    return {} if frame.small is None else {SMALL: FloatDistribution(0.0, 1.0, step=0.05)}


def _begin_small(schedule: Schedule, frame: FullSchedule, parameters: Mapping[str, Any]) -> Schedule:
    """The schedule with a share of its steps, 0..1, counted from the noise, on the small network."""
    return (
        schedule
        if frame.small is None
        else stitched(schedule, frame.small, small_steps(schedule.num_steps, parameters))
    )


def small_steps(steps: int, parameters: Mapping[str, Any]) -> int:
    """How many of so many steps the small network takes."""
    return round(parameters.get(SMALL, 0.0) * steps)


# The number of steps, and where they stand.
STEPS = Lever(
    _step_distributions,
    lambda frame: {"num_steps": frame.num_steps, "spacing": 1.0},
    lambda _, frame, parameters: frame.steps(parameters["num_steps"], round(parameters.get("spacing", 1.0), 1)),
)
# The order in which a depth adds blocks, which the rows of blocks are made with.
BLOCK_ORDER = Lever(_order_distributions, lambda frame: {"keep": next(iter(frame.orders))})
# The share of the steps that are guided.
GUIDED_SHARE = Lever(_guidance_distributions, lambda _: {"guided_share": 1.0}, _leave_guidance)

LEVERS = (STEPS, BLOCK_ORDER, GUIDED_SHARE)
# What the space `free` chooses beside its rows: the levers of all spaces but for steps and orders, of which each step
# has its own, and more that would change the parameters of other spaces' stored studies.
FREE_LEVERS = (
    *(lever for lever in LEVERS if lever not in (STEPS, BLOCK_ORDER)),
    Lever(_solver_orders, lambda frame: {"solver_order": frame.full.sampler.order}, _with_solver_order),
    Lever(_early_distributions, lambda _: {"unguided_share": 0.0}, _leave_early_guidance),
    Lever(_small_distributions, lambda _: {SMALL: 0.0}, _begin_small),
)


def lever_distributions(frame: FullSchedule) -> Mapping[str, BaseDistribution]:
    """The parameters of all levers."""
    return {name: found for lever in LEVERS for name, found in lever.distributions(frame).items()}


def whole_parameters(frame: FullSchedule) -> Parameters:
    """The point of all levers that is the full schedule."""
    return {name: lever.whole(frame)[name] for lever in LEVERS for name in lever.distributions(frame)}


def pull_levers(frame: FullSchedule, parameters: Mapping[str, Any]) -> Schedule:
    """The schedule with all levers set, in which all blocks run."""
    schedule = frame.full
    for lever in LEVERS:
        schedule = lever.change(schedule, frame, parameters)
    return schedule
