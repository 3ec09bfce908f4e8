"""Solvers as tables of coefficients, one row a step, worked out in float64 before sampling starts.

With F the network's guided output, every solver is a case of
    m = model_x · x + model_f · F
    x ← a · x + Σⱼ bⱼ · m₍ₙₑwₑₛₜ ₋ ⱼ₎ + c · ξ
Here m is always the predicted data x₀; a solver added later may keep another quantity.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import pairwise

from .errors import InputError
from .noise_schedules import BETAS, CLEAN, Marginal, marginal, marginal_at_sigma, times
from .schedule import RUN, Action, Coefficients, Guidance, NetworkSignature, Noise, Sampler, Schedule, Step, validate

# In diffusers `lower_order_final` takes effect below this many steps; from here on only `final: zero` lowers the order.
FEW_STEPS = 15


@dataclass(frozen=True)
class Solver:
    """What a solver is: its table and what it may be asked for.

    Attributes:
        table: (marginals of all steps and of where the last one goes, sampler) -> one row a step.
        orders: the orders it has.
        variances: what `sampler.variance` may be, the default first.
        variant: the one variant there is, or None.
        include_zero: whether by custom its spacing's last time is train index 0.
    """

    table: Callable[[Sequence[Marginal], Sampler], list[Coefficients]]
    orders: tuple[int, ...]
    variances: tuple[str, ...]
    variant: str | None
    include_zero: bool


def data_prediction(prediction: str, point: Marginal) -> tuple[float, float]:
    """(model_x, model_f) such that x₀ = model_x · x + model_f · F, for a network that predicts ε, v or x₀ itself.

    v = α · ε − σ · x₀ (Salimans & Ho 2022, appendix D).

    Raises:
        InputError: the prediction is none of these.
    """
    if prediction == "epsilon":
        return 1 / point.alpha, -point.sigma / point.alpha
    if prediction == "v":
        return point.alpha, -point.sigma
    if prediction == "sample":
        return 0.0, 1.0
    raise InputError(f"prediction: must be epsilon, v or sample, but got `{prediction}`. Or give coefficients.")


def _row(sampler: Sampler, point: Marginal, a: float, b: tuple[float, ...], c: float = 0.0) -> Coefficients:
    model_x, model_f = data_prediction(sampler.prediction, point)
    return Coefficients(input_scale=1.0, model_x=model_x, model_f=model_f, a=a, b=b, c=c)


def ddpm(points: Sequence[Marginal], sampler: Sampler) -> list[Coefficients]:
    """The posterior of the respaced process (Ho et al. 2020, eq. 7); no noise is added in the last step.

    The variance is β̃ (`fixed-small`), β (`fixed-large`) or between the two as the network says (`learned-range`,
    Nichol & Dhariwal 2021, eq. 15).
    """
    rows = [_ddpm_row(sampler, now, after) for now, after in pairwise(points)]
    return [*rows[:-1], replace(rows[-1], c=0.0, log_variance=None)]


def _ddpm_row(sampler: Sampler, now: Marginal, after: Marginal) -> Coefficients:
    ratio = now.alpha / after.alpha
    beta = -math.expm1(2 * math.log(ratio))  # β of the respaced process: 1 − ᾱ/ᾱ′
    small = after.sigma**2 / now.sigma**2 * beta  # β̃, the variance of the posterior given x₀
    row = _row(sampler, now, a=ratio * after.sigma**2 / now.sigma**2, b=(after.alpha * beta / now.sigma**2,))
    if sampler.variance == "learned-range":
        return replace(row, log_variance=(math.log(max(small, 1e-20)), math.log(beta)))
    return replace(row, c=math.sqrt(small if sampler.variance == "fixed-small" else beta))


def ddim(points: Sequence[Marginal], sampler: Sampler) -> list[Coefficients]:
    """DDIM (Song et al. 2021, eq. 12): deterministic with variance `none` (η = 0), and η = 1 with `fixed-small`."""
    return ddim_table(points, sampler, eta=1.0 if sampler.variance == "fixed-small" else 0.0)


def ddim_table(points: Sequence[Marginal], sampler: Sampler, eta: float) -> list[Coefficients]:
    """DDIM's rows for any η, 0 (deterministic) … 1 (as random as DDPM with the small variance; eq. 16)."""
    return [_ddim_row(sampler, now, after, eta) for now, after in pairwise(points)]


def _ddim_row(sampler: Sampler, now: Marginal, after: Marginal, eta: float) -> Coefficients:
    beta = -math.expm1(2 * math.log(now.alpha / after.alpha))
    noise = eta * after.sigma / now.sigma * math.sqrt(beta)
    direction = math.sqrt(max(after.sigma**2 - noise**2, 0.0))  # scale of the predicted noise that stays
    a = direction / now.sigma
    return _row(sampler, now, a=a, b=(after.alpha - now.alpha * a,), c=noise)


def dpm_solver_plus_plus(points: Sequence[Marginal], sampler: Sampler) -> list[Coefficients]:
    """DPM-Solver++ multistep (Lu et al. 2022, arXiv 2211.01095, algorithm 2), order 1 or 2, midpoint.

    The first step is of order 1 for want of a history. So is the last one where it goes to σ = 0, and with
    `lower_order_final` below 15 steps, both as in diffusers.
    """
    last = len(points) - 2
    lower_last = points[-1].sigma == 0 or (sampler.lower_order_final and last + 1 < FEW_STEPS)
    rows: list[Coefficients] = []
    for s in range(last + 1):
        first_order = sampler.order == 1 or s == 0 or (s == last and lower_last)
        rows.append(_multistep_row(sampler, None if first_order else points[s - 1], points[s], points[s + 1]))
    return rows


def _multistep_row(sampler: Sampler, before: Marginal | None, now: Marginal, after: Marginal) -> Coefficients:
    h = after.log_snr - now.log_snr
    weight = -after.alpha * math.expm1(-h)
    if before is None:
        return _row(sampler, now, a=after.sigma / now.sigma, b=(weight,))
    half = 0.5 * h / (now.log_snr - before.log_snr)  # 1 / (2 r) of the paper
    return _row(sampler, now, a=after.sigma / now.sigma, b=(weight * (1 + half), -weight * half))


SOLVERS: dict[str, Solver] = {
    "ddpm": Solver(ddpm, (1,), ("fixed-small", "fixed-large", "learned-range"), None, include_zero=True),
    "ddim": Solver(ddim, (1,), ("none", "fixed-small"), None, include_zero=True),
    "dpmsolver++": Solver(dpm_solver_plus_plus, (1, 2), ("none",), "midpoint", include_zero=False),
}


def find(name: str) -> Solver:
    """The solver of a name. Raises InputError, with the nearest name, if there is none."""
    if name in SOLVERS:
        return SOLVERS[name]
    near = get_close_matches(name, SOLVERS, n=1)
    hint = f"Did you mean `{near[0]}`?" if near else f"Known: {', '.join(SOLVERS)}."
    raise InputError(f"solver: `{name}` is not known. {hint} Or give coefficients in every step.")


def rows(schedule: Schedule) -> list[Coefficients]:
    """One row of coefficients a step: those that the schedule carries, else its solver's table.

    Raises:
        InputError: the schedule carries none, and its solver, noise or prediction has no table.
    """
    carried = [step.coefficients for step in schedule.steps if step.coefficients is not None]
    if carried:
        assert len(carried) == len(schedule.steps), "every step or none carries coefficients"
        return carried
    solver = find(schedule.sampler.name)
    check(solver, schedule.sampler)
    return solver.table(marginals(schedule.sampler, [step.time for step in schedule.steps]), schedule.sampler)


def marginals(sampler: Sampler, step_times: Sequence[float]) -> list[Marginal]:
    """The marginal at each step's time, and at the end where the last step goes.

    Raises:
        InputError: the noise is not variance-preserving, or times are not strictly falling.
    """
    if sampler.noise.kind not in (*BETAS, "vp"):
        known = ", ".join([*BETAS, "vp"])
        raise InputError(f"noise: `{sampler.noise.kind}` has no solver table. Known: {known}. Or give coefficients.")
    if any(after >= before for before, after in pairwise(step_times)):
        raise InputError(f"times: `{sampler.name}` needs strictly falling times. Take equal neighbours out.")
    end = CLEAN if sampler.final == "zero" else marginal(sampler.noise, 0.0)
    if sampler.time == "sigma":
        return [*(marginal_at_sigma(time) for time in step_times), end]
    return [*(marginal(sampler.noise, time) for time in step_times), end]


def check(solver: Solver, sampler: Sampler) -> None:
    """Raise InputError if the solver does not have the order, the variance or the variant that the sampler names."""
    if sampler.order not in solver.orders:
        raise InputError(f"order: `{sampler.name}` has {', '.join(map(str, solver.orders))}, but got {sampler.order}.")
    if sampler.variance not in solver.variances:
        raise InputError(f"variance: `{sampler.name}` has {', '.join(solver.variances)}, but got `{sampler.variance}`.")
    if sampler.variant not in (None, solver.variant):
        raise InputError(f"variant: `{sampler.name}` has {solver.variant or 'none'}, but got `{sampler.variant}`.")


def with_coefficients(schedule: Schedule) -> Schedule:
    """The same schedule with its rows written into its steps, for runtimes without solver code."""
    steps = tuple(replace(step, coefficients=row) for step, row in zip(schedule.steps, rows(schedule), strict=True))
    return replace(schedule, steps=steps)


def make_schedule(
    signature: NetworkSignature,
    noise: Noise,
    prediction: str,
    *,
    solver: str = "dpmsolver++",
    order: int | None = None,
    num_steps: int = 20,
    spacing: str | Sequence[float] = "log-snr",
    include_zero: bool | None = None,
    spacing_parameters: Mapping[str, float] | None = None,
    guidance: float | Guidance | None = None,
    final: str = "zero",
    variance: str | None = None,
    eta: float | None = None,
    lower_order_final: bool = True,
    clip: float | None = None,
    name: str | None = None,
) -> Schedule:
    """The baseline: every block runs at every step.

    Args:
        signature, noise, prediction: the network's.
        solver: a name in `SOLVERS`.
        order: of the solver; its highest if not given.
        num_steps: number of steps; a spacing by hand decides by itself.
        spacing: a name in `SPACINGS`, or the falling times (train indices) themselves.
        include_zero: whether a spacing by name ends with an evaluation at train index 0; the solver's custom if None.
        spacing_parameters: what the spacing takes, such as `{"rho": 2.5}`.
        guidance: scale of classifier-free guidance, or None for none.
        final: "zero" (the last step goes to σ = 0) or "train-0" (to train index 0).
        variance: the solver's first if not given.
        eta: DDIM's η, 0 … 1. The format has no key for it: with values other than 0 and 1, steps carry coefficients.
        lower_order_final: see `dpm_solver_plus_plus`.
        clip: bound on the absolute value of the predicted data.
        name: for people.

    Raises:
        InputError: an unknown name, or values that do not go together.
    """
    kind = find(solver)
    if isinstance(spacing, str):
        ends = kind.include_zero if include_zero is None else include_zero
        spacing = times(spacing, num_steps, noise, include_zero=ends, **(spacing_parameters or {}))
    sampler = Sampler(
        name=solver,
        prediction=prediction,
        time="sigma" if noise.kind == "vp" else "train-index",
        noise=noise,
        variant=kind.variant,
        order=kind.orders[-1] if order is None else order,
        lower_order_final=lower_order_final,
        final=final,
        initial_scale=1.0,
        clip=clip,
        variance=variance or kind.variances[0],
        sigma_data=None,
    )
    check(kind, sampler)
    blocks = (RUN,) * signature.num_blocks
    schedule = Schedule(
        networks=(signature,),
        sampler=sampler,
        steps=tuple(_step(noise, time, blocks) for time in spacing),
        guidance=Guidance(guidance) if isinstance(guidance, int | float) else guidance,
        name=name,
    )
    if eta is not None:
        schedule = _with_eta(schedule, eta)
    validate(schedule)
    return schedule


def _step(noise: Noise, time: float, blocks: tuple[Action, ...]) -> Step:
    """A step at a train index. The VP-SDE has none: its steps are named by σ/α and carry what the network receives."""
    if noise.kind != "vp":
        return Step(time=time, blocks=blocks)
    return Step(time=math.exp(-marginal(noise, time).log_snr), network_time=time, blocks=blocks)


def _with_eta(schedule: Schedule, eta: float) -> Schedule:
    """The same schedule sampled with DDIM's η."""
    sampler = schedule.sampler
    if sampler.name != "ddim" or not 0 <= eta <= 1:
        raise InputError(f"eta: is DDIM's, between 0 and 1, but got {eta} with `{sampler.name}`. Leave it away.")
    if eta in (0.0, 1.0):
        return replace(schedule, sampler=replace(sampler, variance="fixed-small" if eta else "none"))
    table = ddim_table(marginals(sampler, [step.time for step in schedule.steps]), sampler, eta)
    steps = tuple(replace(step, coefficients=row) for step, row in zip(schedule.steps, table, strict=True))
    return replace(schedule, sampler=replace(sampler, variance="fixed-small"), steps=steps)
