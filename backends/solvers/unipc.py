"""UniPC (Zhao et al. 2023, arXiv 2302.04867): a predictor, and a corrector that needs no evaluation of its own.

The prediction at step s first corrects the step that led there, and then the predictor continues from the corrected x.
Predictor and corrector start at the same x with the same factor, so the corrected x is x + Σ dⱼ · mⱼ, and both fold
into one row of order + 1 values.
"""

import math
from collections.abc import Sequence
from itertools import zip_longest

from ..schedule import Coefficients
from .dpm_solver import from_finite
from .path import Path, row


def unipc(path: Path) -> list[Coefficients]:
    """UniPC for data prediction, with B(h) = h (`bh1`) or e^h − 1 (`bh2`), as in diffusers.

    The first steps are of lower order for want of a history, and with `lower_order_final` the last ones down to 1;
    where it goes to σ = 0, the last step is always of order 1.
    """
    path = from_finite(path)
    return [_row(path, s) for s in range(path.num_steps)]


def _order(path: Path, s: int) -> int:
    left, end = path.num_steps - s, path.points[-1]
    if left == 1 and (end.sigma == 0 or end == path.points[-2]):
        return 1
    return min(path.sampler.order, s + 1, left if path.sampler.lower_order_final else s + 1)


def _row(path: Path, s: int) -> Coefficients:
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
    order = _order(path, s)
    ratios = _ratios(path, s, order)[:-1]
    # At order 2 any weight near ½ has the order; this one is the authors'.
    weights = _solved(ratios, _targets(path, s, order - 1)) if order > 2 else [0.5] * (order - 1)
    return _combined(path, s, ratios, weights)


def _corrected(path: Path, s: int) -> list[float]:
    """UniC: weights of m of step s + 1, s, …, s − order + 1 in the corrected x of step s + 1 (algorithm 5)."""
    order = _order(path, s)
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
