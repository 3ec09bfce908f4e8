"""Solvers that look at the newest prediction alone: DDPM, DDIM, Euler and Euler–Maruyama."""

import math
from dataclasses import replace
from itertools import pairwise

from ..schedule import Coefficients
from .noise_schedules import decay_rate, time_at
from .path import History, Path, row, straight


def ddpm(path: Path) -> list[Coefficients]:
    """The posterior of the respaced process (Ho et al. 2020, eq. 7); no noise is added in the last step.

    The variance is β̃ (`fixed-small`), β (`fixed-large`) or between the two as the network says (`learned-range`,
    Nichol & Dhariwal 2021, eq. 15).
    """
    rows = [_ddpm_row(path, s) for s in range(path.num_steps)]
    return [*rows[:-1], replace(rows[-1], c=0.0, log_variance=None)]


def _ddpm_row(path: Path, s: int) -> Coefficients:
    now, after, variance = path.points[s], path.points[s + 1], path.sampler.variance
    ratio = now.alpha / after.alpha
    beta = -math.expm1(2 * math.log(ratio))  # β of the respaced process: 1 − ᾱ/ᾱ′
    small = after.sigma**2 / now.sigma**2 * beta  # β̃, the variance of the posterior given x₀
    made = row(path, s, "x0", a=ratio * after.sigma**2 / now.sigma**2, b=(after.alpha * beta / now.sigma**2,))
    if variance == "learned-range":
        return replace(made, log_variance=(math.log(max(small, 1e-20)), math.log(beta)))
    return replace(made, c=math.sqrt(small if variance == "fixed-small" else beta))


def ddim(path: Path) -> list[Coefficients]:
    """DDIM (Song et al. 2021, eq. 12): deterministic with variance `none` (η = 0), and η = 1 with `fixed-small`."""
    return ddim_table(path, eta=1.0 if path.sampler.variance == "fixed-small" else 0.0)


def ddim_table(path: Path, eta: float) -> list[Coefficients]:
    """DDIM's rows for any η, 0 (deterministic) … 1 (as random as DDPM with the small variance; eq. 16)."""
    return [_ddim_row(path, s, eta) for s in range(path.num_steps)]


def _ddim_row(path: Path, s: int, eta: float) -> Coefficients:
    now, after = path.points[s], path.points[s + 1]
    beta = -math.expm1(2 * math.log(now.alpha / after.alpha))
    noise = eta * after.sigma / now.sigma * math.sqrt(beta)
    direction = math.sqrt(max(after.sigma**2 - noise**2, 0.0))  # scale of the predicted noise that stays
    a = direction / now.sigma
    return row(path, s, "x0", a=a, b=(after.alpha - now.alpha * a,), c=noise)


def euler(path: Path) -> list[Coefficients]:
    """Euler's method on dx̂/d(σ/α) = ε, where x̂ = x/α (Karras et al. 2022, eq. 3 and 4; k-diffusion's `euler`)."""
    return _euler(path, "epsilon")


def flow_euler(path: Path) -> list[Coefficients]:
    """Euler's method on dx/dt = ε − x₀, the velocity of flow matching (Esser et al. 2024, eq. 1)."""
    return _euler(path, "velocity")


def _euler(path: Path, history: History) -> list[Coefficients]:
    steps = [straight(history, path.points[s], path.points[s + 1]) for s in range(path.num_steps)]
    return [row(path, s, history, a=p, b=(q,)) for s, (p, q) in enumerate(steps)]


def euler_maruyama(path: Path) -> list[Coefficients]:
    """Euler–Maruyama on the reverse of the variance-preserving SDE (Song et al. 2021, eq. 6 and 11).

    dx = −½ β(t) (x + 2 ∇ln p) dt + √β(t) dw, backwards in time, with ∇ln p = −ε/σ; no noise in the last step.
    """
    rows: list[Coefficients] = []
    for s, (now, after) in enumerate(pairwise(_indices(path))):
        added = decay_rate(path.sampler.noise, now) * (now - after)  # β(t) · Δt
        b = (-added / path.points[s].sigma,)
        rows.append(row(path, s, "epsilon", a=1 + added / 2, b=b, c=math.sqrt(added)))
    return [*rows[:-1], replace(rows[-1], c=0.0)]


def _indices(path: Path) -> list[float]:
    """Train indices of all steps, and where the last one goes: no noise at all stands one before index 0."""
    noise, sampler = path.sampler.noise, path.sampler
    steps = [time_at(noise, -math.log(time)) for time in path.times] if sampler.time == "sigma" else list(path.times)
    return [*steps, -1.0 if sampler.final == "zero" else 0.0]
