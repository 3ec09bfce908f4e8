"""Solvers as tables of coefficients, one row a step, worked out in float64 before sampling starts.

`SOLVER_TABLE` says what each is and may be asked for, `make_schedule` makes the baseline with one, and `solver_rows`
gives the rows of a schedule. What a row does stands in `path.py`; the tables stand in the modules beside it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from ..errors import InputError, nearest
from ..schedule import (
    EVALUATES_TWICE,
    RUN,
    Action,
    Coefficients,
    Embedded,
    Guidance,
    NetworkSignature,
    Noise,
    Sampler,
    Schedule,
    Step,
    validate,
)
from . import spacings
from .multistep import dpm_solver_plus_plus, unipc
from .noise_schedules import CLEAN, marginal, marginal_at
from .path import PREDICTION_CONVERSIONS, VARIANCE_PRESERVING, Path, check_prediction
from .repeated import heun, heun_times, pndm, pndm_times
from .single_step import ddim, ddim_table, ddpm, euler, euler_maruyama, flow_euler

ANY_NOISE = tuple(PREDICTION_CONVERSIONS)


def _once(times: Sequence[float], sampler: Sampler) -> list[float]:
    return list(times)


@dataclass(frozen=True)
class Solver:
    """A solver: its table, and the options that it takes.

    Attributes:
        table: the path of an evaluation after the other -> one row for each.
        orders: the orders it has.
        default_order: the one that it is used with by default.
        noises: the kinds of noise it works on.
        include_zero: whether by default the network is evaluated at its spacing's end too.
        variances: what `sampler.variance` may be, the default first.
        variants: what `sampler.variant` may be, the default first; empty where there is one way alone.
        expand: times of the spacing -> times of the evaluations, of which some may be at equal times.
        scales_noise: whether by default the first noise is scaled by σ of the first step, not by 1.
    """

    table: Callable[[Path], list[Coefficients]]
    orders: tuple[int, ...]
    default_order: int
    noises: tuple[str, ...]
    include_zero: bool
    variances: tuple[str, ...] = ("none",)
    variants: tuple[str, ...] = ()
    expand: Callable[[Sequence[float], Sampler], list[float]] = _once
    scales_noise: bool = False


SOLVER_TABLE: dict[str, Solver] = {
    "ddpm": Solver(ddpm, (1,), 1, VARIANCE_PRESERVING, True, variances=("fixed-small", "fixed-large", "learned-range")),
    "ddim": Solver(ddim, (1,), 1, VARIANCE_PRESERVING, True, variances=("none", "fixed-small")),
    "dpmsolver++": Solver(dpm_solver_plus_plus, (1, 2, 3), 2, ANY_NOISE, False, variants=("midpoint", "heun")),
    "unipc": Solver(unipc, (1, 2, 3), 2, ANY_NOISE, False, variants=("bh2", "bh1")),
    "pndm": Solver(pndm, (4,), 4, VARIANCE_PRESERVING, True, variants=("plms", "prk"), expand=pndm_times),
    "euler": Solver(euler, (1,), 1, (*VARIANCE_PRESERVING, "edm"), True, scales_noise=True),
    "heun": Solver(heun, (2,), 2, ANY_NOISE, True, expand=heun_times, scales_noise=True),
    "euler-maruyama": Solver(euler_maruyama, (1,), 1, VARIANCE_PRESERVING, True, variances=("fixed-large",)),
    # EDM's deterministic sampler: Heun's method in σ.
    "edm": Solver(heun, (2,), 2, ("edm",), True, expand=heun_times, scales_noise=True),
    "flow-euler": Solver(flow_euler, (1,), 1, ("flow",), True),
}


def find_solver(name: str) -> Solver:
    """The solver of a name. Raises InputError, with the nearest name, if there is none."""
    if name in SOLVER_TABLE:
        return SOLVER_TABLE[name]
    raise InputError(
        f"solver: `{name}` is not known. {nearest(name, SOLVER_TABLE)} Or give coefficients in every step."
    )


def default_solver(noise: Noise) -> str:
    """The name of the solver that is customary on a noise."""
    return {"edm": "edm", "flow": "flow-euler"}.get(noise.kind, "dpmsolver++")


def check_sampler(sampler: Sampler) -> Solver:
    """The sampler's solver.

    Raises:
        InputError: there is none of that name, or it has no such order, variance, variant, noise or prediction.
    """
    solver = find_solver(sampler.name)
    if sampler.noise.kind not in solver.noises:
        others = ", ".join(name for name, other in SOLVER_TABLE.items() if sampler.noise.kind in other.noises)
        raise InputError(f"noise: `{sampler.name}` has no table on noise `{sampler.noise.kind}`. Use {others}.")
    check_prediction(sampler.prediction, sampler.noise)
    if sampler.order not in solver.orders:
        known = ", ".join(map(str, solver.orders))
        raise InputError(f"order: `{sampler.name}` has {known}, but got {sampler.order}. Use {solver.default_order}.")
    if sampler.variance not in solver.variances:
        known = ", ".join(solver.variances)
        raise InputError(f"variance: `{sampler.name}` has {known}, but got `{sampler.variance}`. Omit it.")
    if sampler.variant not in (None, *solver.variants):
        known = ", ".join(solver.variants) or "none"
        raise InputError(f"variant: `{sampler.name}` has {known}, but got `{sampler.variant}`. Omit it.")
    return solver


SIGMA_DATA = 0.5  # of EDM's networks (Karras et al. 2022, table 1)
UNITS = {"vp": "sigma", "edm": "sigma", "flow": "flow"}  # what a step's time is; elsewhere a train index


def solver_rows(schedule: Schedule) -> list[Coefficients]:
    """One row of coefficients a step: those that the schedule carries, else its solver's table.

    Raises:
        InputError: the schedule carries none, and its solver has no table for its noise, prediction or times.
    """
    carried = [step.coefficients for step in schedule.steps if step.coefficients is not None]
    if carried:
        assert len(carried) == len(schedule.steps), "every step or none carries coefficients"
        return carried
    solver = check_sampler(schedule.sampler)
    return solver.table(path(schedule.sampler, [step.time for step in schedule.steps]))


def has_own_rows(schedule: Schedule) -> bool:
    """Whether it carries other rows than its solver's table, such as fitted ones, which no solver's name stands for."""
    if schedule.steps[0].coefficients is None:
        return False
    bare = replace(schedule, steps=tuple(replace(step, coefficients=None) for step in schedule.steps))
    try:
        return solver_rows(bare) != solver_rows(schedule)
    except InputError:
        return True


def path(sampler: Sampler, step_times: Sequence[float]) -> Path:
    """The marginal at each evaluation's time, and at the end where the last step goes.

    Raises:
        InputError: times are not strictly falling, and the solver does not evaluate twice at one.
    """
    if sampler.name not in EVALUATES_TWICE and any(after >= before for before, after in pairwise(step_times)):
        raise InputError(f"times: `{sampler.name}` needs strictly falling times. Remove equal neighbours.")
    end = CLEAN if sampler.final == "zero" else marginal(sampler.noise, 0.0)
    points = [marginal_at(sampler.noise, sampler.time, time) for time in step_times]
    return Path(sampler, tuple(step_times), (*points, end))


def with_coefficients(schedule: Schedule) -> Schedule:
    """The same schedule with its rows written into its steps, for runtimes without solver code."""
    steps = tuple(
        replace(step, coefficients=row) for step, row in zip(schedule.steps, solver_rows(schedule), strict=True)
    )
    return replace(schedule, steps=steps)


def make_schedule(
    signature: NetworkSignature,
    noise: Noise,
    prediction: str,
    *,
    solver: str | None = None,
    order: int | None = None,
    variant: str | None = None,
    num_steps: int = 20,
    spacing: str | Sequence[float] | None = None,
    include_zero: bool | None = None,
    spacing_parameters: Mapping[str, float] | None = None,
    guidance: float | Guidance | Embedded | None = None,
    final: str = "zero",
    variance: str | None = None,
    eta: float | None = None,
    lower_order_final: bool = True,
    clip: float | None = None,
    initial_scale: float | None = None,
    sigma_data: float = SIGMA_DATA,
    name: str | None = None,
) -> Schedule:
    """The baseline: every block runs at every step.

    Args:
        signature, noise, prediction: the network's.
        solver: a name in `SOLVER_TABLE`; the noise's default if None.
        order: of the solver; its default if not given.
        variant: of the solver; its first if not given.
        num_steps: number of times of the spacing; a spacing by hand decides by itself. Solvers that evaluate twice at
            a time make more steps of them: 2n − 1 with `heun` and `edm`, n + 1 with `pndm`, n + 9 with its `prk`.
        spacing: a name in `SPACINGS`, or the falling times themselves: train indices with betas and on the VP-SDE, σ
            for EDM, 1 to above 0 for flow matching. The noise's default if None.
        include_zero: whether a spacing by name ends with an evaluation at its end (train index 0, σ_min); the solver's
            default if None.
        spacing_parameters: what the spacing takes, such as `{"rho": 2.5}` or `{"shift": 3.0}`.
        guidance: scale of classifier-free guidance, or None for none.
        final: "zero" (the last step goes to σ = 0) or "train-0" (to train index 0).
        variance: the solver's first if not given.
        eta: DDIM's η, 0 … 1. The format has no key for it: with values other than 0 and 1, steps carry coefficients.
        lower_order_final: see `dpm_solver_plus_plus` and `unipc`.
        clip: bound on the absolute value of the predicted data.
        initial_scale: of the first noise. By default σ of the first step for EDM's noise, and for `euler` and `heun`
            as in diffusers (unless the spacing is `leading`); 1 otherwise.
        sigma_data: of an EDM network; others have none.
        name: for people.

    Raises:
        InputError: an unknown name, or values that do not go together.
    """
    kind = find_solver(solver or default_solver(noise))
    sampler = Sampler(
        name=solver or default_solver(noise),
        prediction=prediction,
        time=UNITS.get(noise.kind, "train-index"),
        noise=noise,
        variant=variant or next(iter(kind.variants), None),
        order=kind.default_order if order is None else order,
        lower_order_final=lower_order_final,
        final=final,
        clip=clip,
        variance=variance or kind.variances[0],
        sigma_data=sigma_data if prediction == "edm" else None,
    )
    check_sampler(sampler)
    if spacing is None or isinstance(spacing, str):
        ends = kind.include_zero if include_zero is None else include_zero
        chosen = spacing or spacings.default_spacing(noise)
        times = spacings.times(chosen, num_steps, noise, include_zero=ends, **(spacing_parameters or {}))
    else:
        times = spacing
    steps = _steps(sampler, times, (RUN,) * signature.num_blocks)
    if initial_scale is None:
        scaled = noise.kind == "edm" or (kind.scales_noise and noise.kind != "flow" and spacing != "leading")
        initial_scale = marginal_at(noise, sampler.time, steps[0].time).sigma if scaled else 1.0
    schedule = Schedule(
        networks=(signature,),
        sampler=replace(sampler, initial_scale=initial_scale),
        steps=steps,
        guidance=Guidance(guidance) if isinstance(guidance, int | float) else guidance,
        name=name,
    )
    if eta is not None:
        schedule = _with_eta(schedule, eta)
    validate(schedule)
    return schedule


def respaced(full: Schedule, times: Sequence[float]) -> Schedule:
    """The full schedule at other times of a spacing, as `make_schedule` takes them."""
    return replace(full, steps=_steps(full.sampler, times, full.steps[0].blocks))


def num_evaluations(sampler: Sampler, num_times: int) -> int | None:
    """How many steps a solver makes of so many times of a spacing; None where it can't do with so few."""
    last = 0 if find_solver(sampler.name).include_zero else 1
    try:
        return len(find_solver(sampler.name).expand([float(last + i) for i in reversed(range(num_times))], sampler))
    except InputError:
        return None


def _steps(sampler: Sampler, times: Sequence[float], blocks: tuple[Action, ...]) -> tuple[Step, ...]:
    """A step for each evaluation that the solver makes of a spacing's times."""
    return tuple(step_at(sampler.noise, time, blocks) for time in find_solver(sampler.name).expand(times, sampler))


def step_at(noise: Noise, time: float, blocks: tuple[Action, ...]) -> Step:
    """A step at a time of a spacing, with what the network receives where that is something else.

    The VP-SDE has no train indices: its steps are named by σ/α. EDM's networks receive ¼ ln σ (Karras et al. 2022,
    table 1), those of flow matching 1000 · t, as SD3's.
    """
    if noise.kind == "vp":
        return Step(time=math.exp(-marginal(noise, time).log_snr), network_time=time, blocks=blocks)
    if noise.kind in ("edm", "flow") and not 0 < time <= (1 if noise.kind == "flow" else math.inf):
        rule = "above 0 and at most 1" if noise.kind == "flow" else "above 0"
        raise InputError(f"spacing: times on noise `{noise.kind}` must be {rule}, but got {time}. Remove it.")
    if noise.kind == "edm":
        return Step(time=time, network_time=math.log(time) / 4, blocks=blocks)
    return Step(time=time, network_time=1000 * time if noise.kind == "flow" else None, blocks=blocks)


def _with_eta(schedule: Schedule, eta: float) -> Schedule:
    """The same schedule sampled with DDIM's η."""
    sampler = schedule.sampler
    if sampler.name != "ddim" or not 0 <= eta <= 1:
        raise InputError(f"eta: is DDIM's, between 0 and 1, but got {eta} with `{sampler.name}`. Omit it.")
    if eta in (0.0, 1.0):
        return replace(schedule, sampler=replace(sampler, variance="fixed-small" if eta else "none"))
    table = ddim_table(path(sampler, [step.time for step in schedule.steps]), eta)
    steps = tuple(replace(step, coefficients=row) for step, row in zip(schedule.steps, table, strict=True))
    return replace(schedule, sampler=replace(sampler, variance="fixed-small"), steps=steps)
