"""The registry of solvers: what each is called, what it may be asked for, and where its table is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import InputError, nearest
from ..schedule import Coefficients, Noise, Sampler
from .dpm_solver import dpm_solver_plus_plus
from .heun import heun, heun_times
from .path import PREDICTION_CONVERSIONS, VARIANCE_PRESERVING, Path, check_prediction
from .pndm import pndm, pndm_times
from .single_step import ddim, ddpm, euler, euler_maruyama, flow_euler
from .unipc import unipc

ANY_NOISE = tuple(PREDICTION_CONVERSIONS)


def _once(times: Sequence[float], sampler: Sampler) -> list[float]:
    return list(times)


@dataclass(frozen=True)
class Solver:
    """What a solver is: its table and what it may be asked for.

    Attributes:
        summary: one line for people.
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

    summary: str
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
    "ddpm": Solver(
        "the posterior of the respaced process, with noise in every step",
        ddpm, (1,), 1, VARIANCE_PRESERVING, True, variances=("fixed-small", "fixed-large", "learned-range"),
    ),
    "ddim": Solver(
        "deterministic, or with noise by eta",
        ddim, (1,), 1, VARIANCE_PRESERVING, True, variances=("none", "fixed-small"),
    ),
    "dpmsolver++": Solver(
        "DPM-Solver++, multistep", dpm_solver_plus_plus, (1, 2, 3), 2, ANY_NOISE, False, variants=("midpoint", "heun"),
    ),
    "unipc": Solver(
        "UniPC's predictor and corrector, folded into one evaluation a step",
        unipc, (1, 2, 3), 2, ANY_NOISE, False, variants=("bh2", "bh1"),
    ),
    "pndm": Solver(
        "PNDM: linear multistep of order 4 after a warm-up",
        pndm, (4,), 4, VARIANCE_PRESERVING, True, variants=("plms", "prk"), expand=pndm_times,
    ),
    "euler": Solver(
        "Euler's method in σ/α", euler, (1,), 1, (*VARIANCE_PRESERVING, "edm"), True, scales_noise=True,
    ),
    "heun": Solver(
        "Heun's method, two evaluations a step", heun, (2,), 2, ANY_NOISE, True, expand=heun_times,
        scales_noise=True,
    ),
    "euler-maruyama": Solver(
        "the reverse SDE, with noise in every step",
        euler_maruyama, (1,), 1, VARIANCE_PRESERVING, True, variances=("fixed-large",),
    ),
    "edm": Solver(
        "EDM's deterministic sampler: Heun's method in σ", heun, (2,), 2, ("edm",), True,
        expand=heun_times, scales_noise=True,
    ),
    "flow-euler": Solver(
        "Euler's method on the velocity of flow matching", flow_euler, (1,), 1, ("flow",), True,
    ),
}  # fmt: skip


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
