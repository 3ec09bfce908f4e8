"""Multistep solvers, DPM-Solver++ and UniPC: the predicted data is extrapolated over ln(α/σ) from the last steps."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest

from ..schedule import Coefficients
from .noise_schedules import Marginal
from .path import FLOW_START, Path, row

# In diffusers `lower_order_final` takes effect below this many steps; from here on only `final: zero` lowers the order.
FEW_STEPS = 15


def dpm_solver_plus_plus(path: Path) -> list[Coefficients]:
    """DPM-Solver++ (Lu et al. 2022, arXiv 2211.01095, algorithm 2), over one, two or three steps.

    The first steps are of lower order for want of a history. So is the last one where it goes to σ = 0, and with
    `lower_order_final` below 15 steps the last two are, both as in diffusers.
    """
    path = from_finite(path)
    lowers = path.sampler.lower_order_final and path.num_steps < FEW_STEPS
    return [_dpm_row(path, s, _order(path, s, lowers)) for s in range(path.num_steps)]


def from_finite(path: Path) -> Path:
    """The path with a finite ln(α/σ) at the pure noise of flow matching, as in diffusers."""
    first = path.points[0]
    if first.alpha > 0:
        return path
    start = Marginal(FLOW_START, 1 - FLOW_START, math.log(FLOW_START / (1 - FLOW_START)))
    return replace(path, points=(start, *path.points[1:]))


def _order(path: Path, s: int, lowers: bool) -> int:
    """The order of step s, as far as its history goes; `lowers` says whether the last steps go down to order 1."""
    left, end = path.num_steps - s, path.points[-1]
    if left == 1 and (end.sigma == 0 or end == path.points[-2]):
        return 1
    return min(path.sampler.order, s + 1, left if lowers else s + 1)


def _dpm_row(path: Path, s: int, order: int) -> Coefficients:
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


def unipc(path: Path) -> list[Coefficients]:
    """UniPC (Zhao et al. 2023, arXiv 2302.04867) for data prediction, with B(h) = h (`bh1`) or e^h − 1 (`bh2`), as in
    diffusers: a predictor, and a corrector that needs no evaluation of its own.

    The prediction at step s first corrects the step that led there, and then the predictor continues from the corrected
    x. Predictor and corrector start at the same x with the same factor, so the corrected x is x + Σ dⱼ · mⱼ, and both
    fold into one row of order + 1 values.

    The first steps are of lower order for want of a history, and with `lower_order_final` the last ones down to 1;
    where it goes to σ = 0, the last step is always of order 1.
    """
    path = from_finite(path)
    return [_unipc_row(path, s) for s in range(path.num_steps)]


def _unipc_row(path: Path, s: int) -> Coefficients:
    a = path.points[s + 1].sigma / path.points[s].sigma
    corrections = _correction(path, s) if s else []
    pairs = zip_longest(corrections, _predicted(path, s), fillvalue=0.0)
    return row(path, s, "x0", a=a, b=tuple(a * correction + weight for correction, weight in pairs))


def _correction(path: Path, s: int) -> list[float]:
    """What the corrector adds to x at step s, as weights of m of step s, s − 1, …: its update less the predictor's."""
    corrected, predicted = _corrected(path, s - 1), _predicted(path, s - 1)
    return [corrected[0], *(after - before for after, before in zip(corrected[1:], predicted, strict=True))]


def _predicted(path: Path, s: int) -> list[float]:
    """UniP: weights of m of step s, s − 1, …, s − order + 1 in the x of step s + 1 (algorithm 6 of the paper)."""
    order = _order(path, s, path.sampler.lower_order_final)
    ratios = _ratios(path, s, order)[:-1]
    # At order 2 any weight near ½ has the order; this one is the authors'.
    weights = _solved(ratios, _targets(path, s, order - 1)) if order > 2 else [0.5] * (order - 1)
    return _combined(path, s, ratios, weights)


def _corrected(path: Path, s: int) -> list[float]:
    """UniC: weights of m of step s + 1, s, …, s − order + 1 in the corrected x of step s + 1 (algorithm 5)."""
    order = _order(path, s, path.sampler.lower_order_final)
    ratios = _ratios(path, s, order)
    weights = [0.5] if order == 1 else _solved(ratios, _targets(path, s, order))
    *past, newest = _combined(path, s, ratios, weights)
    # The last ratio is 1, the value at step s + 1 itself.
    return [newest, *past]


def _combined(path: Path, s: int, ratios: Sequence[float], weights: Sequence[float]) -> list[float]:
    """w · m₀ − α · B(h) · Σₖ weightₖ · (mₖ − m₀)/ratioₖ as weights of m₀ and of each mₖ."""
    after = path.points[s + 1]
    h = after.log_snr - path.points[s].log_snr
    parts = [-after.alpha * _scale(path, h) * weight / ratio for weight, ratio in zip(weights, ratios, strict=True)]
    return [-after.alpha * math.expm1(-h) - sum(parts), *parts]


def _ratios(path: Path, s: int, order: int) -> list[float]:
    """(λ − λ₀)/h of the order − 1 points before step s, and of the one after it, which is 1."""
    now = path.points[s].log_snr
    h = path.points[s + 1].log_snr - now
    return [*((path.points[s - i].log_snr - now) / h for i in range(1, order)), 1.0]


def _scale(path: Path, h: float) -> float:
    """B(h) of the paper, with h < 0 for data prediction."""
    return -h if path.sampler.variant == "bh1" else math.expm1(-h)


def _targets(path: Path, s: int, count: int) -> list[float]:
    """What the weighted powers of the ratios must sum to: k! · φₖ₊₁ · h/B(h) for k = 1 … count (eq. 9)."""
    h = path.points[s].log_snr - path.points[s + 1].log_snr
    phi, found = math.expm1(h) / h - 1, []
    for k in range(1, count + 1):
        found.append(phi * math.factorial(k) / _scale(path, -h))
        phi = phi / h - 1 / math.factorial(k + 1)
    return found


def _solved(ratios: Sequence[float], targets: Sequence[float]) -> list[float]:
    """Weights with Σₖ weightₖ · ratioₖⁱ = targetᵢ for i = 0, 1, …, by elimination without pivots: at most three."""
    size = len(ratios)
    rows = [[ratio**i for ratio in ratios] + [targets[i]] for i in range(size)]
    for i in range(size):
        for other in range(size):
            if other != i:
                factor = rows[other][i] / rows[i][i]
                rows[other] = [x - factor * y for x, y in zip(rows[other], rows[i], strict=True)]
    return [rows[i][-1] / rows[i][i] for i in range(size)]
