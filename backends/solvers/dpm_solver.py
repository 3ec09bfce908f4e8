"""DPM-Solver++, multistep: the predicted data is extrapolated over ln(α/σ) from the last one, two or three steps."""

import math
from dataclasses import replace

from ..schedule import Coefficients
from .noise_schedules import Marginal
from .path import FLOW_START, Path, row

# In diffusers `lower_order_final` takes effect below this many steps; from here on only `final: zero` lowers the order.
FEW_STEPS = 15


def dpm_solver_plus_plus(path: Path) -> list[Coefficients]:
    """DPM-Solver++ multistep (Lu et al. 2022, arXiv 2211.01095, algorithm 2).

    The first steps are of lower order for want of a history. So is the last one where it goes to σ = 0, and with
    `lower_order_final` below 15 steps the last two are, both as in diffusers.
    """
    path = from_finite(path)
    return [_row(path, s, _order(path, s)) for s in range(path.num_steps)]


def from_finite(path: Path) -> Path:
    """The path with a finite ln(α/σ) at the pure noise of flow matching, as in diffusers."""
    first = path.points[0]
    if first.alpha > 0:
        return path
    start = Marginal(FLOW_START, 1 - FLOW_START, math.log(FLOW_START / (1 - FLOW_START)))
    return replace(path, points=(start, *path.points[1:]))


def _order(path: Path, s: int) -> int:
    left, few = path.num_steps - s, path.sampler.lower_order_final and path.num_steps < FEW_STEPS
    end = path.points[-1]
    if left == 1 and (few or end.sigma == 0 or end == path.points[-2]):
        return 1
    return min(path.sampler.order, s + 1, left if few else s + 1)


def _row(path: Path, s: int, order: int) -> Coefficients:
    """One step of an order, in the newest values m₀, m₁, m₂. D₁ and D₂ are their divided differences over ln(α/σ)."""
    now, after = path.points[s], path.points[s + 1]
    h = after.log_snr - now.log_snr
    w0 = -after.alpha * math.expm1(-h)
    b = (w0,)
    if order == 2:
        w1 = w0 / 2 if path.sampler.variant != "heun" else after.alpha - w0 / h
        slope = w1 / _ratio(path, s, h)
        b = (w0 + slope, -slope)
    if order == 3:
        b = _third_order(path, s, h, w0)
    return row(path, s, "x0", a=after.sigma / now.sigma, b=b)


def _third_order(path: Path, s: int, h: float, w0: float) -> tuple[float, ...]:
    """w₀ · m₀ + w₁ · D₁ + w₂ · D₂, with D₁ and D₂ through three values, as in the authors' code and in diffusers.

    D₂ there is half of the second derivative that w₂ is for. So errors fall with order 2, at many steps half of
    order 2's own; with D₂ doubled they fall with order 3 on a Gaussian.
    """
    alpha, r0, r1 = path.points[s + 1].alpha, _ratio(path, s, h), _ratio(path, s - 1, h)
    w1 = alpha - w0 / h
    w2 = (w0 - alpha * h) / h**2 + alpha / 2
    old = -(w1 * r0 + w2) / (r0 + r1)  # on the older slope (m₁ − m₂) / r₁
    new = w1 - old  # on the newer slope (m₀ − m₁) / r₀
    return w0 + new / r0, old / r1 - new / r0, -old / r1


def _ratio(path: Path, s: int, h: float) -> float:
    """The step before step s over this one, both in ln(α/σ)."""
    return (path.points[s].log_snr - path.points[s - 1].log_snr) / h
